-- What a commit and a deletion do on the server, each in one call and so in one transaction of its own.
--
-- Locks are taken in one order by everyone: the resource's advisory lock, then the thread's row. What adds or removes
-- anything of a resource beside a thread's own (its documents, all of it) has the resource's lock for itself; what
-- makes or removes a thread shares it. The thread's row is the lock for what is in the thread.
--
-- A function never changes: one that has to do something else gets another number, so that programs with the older
-- and the newer library can run side by side. {schema} is the schema's name, quoted, and {seed} a number of its own.

CREATE OR REPLACE FUNCTION {schema}.threadkeep_resource_lock_1(in_resource_id bytea) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT pg_catalog.hashtextextended(pg_catalog.encode(in_resource_id, 'hex'), {seed})
$$;

-- With in_thread_id NULL the scope is the resource, and only the resource's documents are put.
-- positions is NULL where all records are new, and so the last ones up to position.
-- outcome: 'done', or the error and nothing written: 'tail' (epoch and position are the tail now), 'message' (named
-- is its id), 'version' (named is the slot, position the version now).
CREATE OR REPLACE FUNCTION {schema}.threadkeep_commit_1(
    in_resource_id bytea, in_thread_id bytea, in_at bigint, in_epoch bytea,
    in_ids bytea[], in_digests bytea[], in_bodies text[],
    in_slots bytea[], in_puts text[], in_if_versions bigint[],
    in_resource_slots bytea[], in_resource_puts text[], in_resource_if_versions bigint[],
    in_drop_after bigint, in_if_epoch bytea, in_if_tail_epoch bytea, in_if_tail_position bigint,
    OUT out_outcome text, OUT out_named bytea, OUT out_epoch bytea, OUT out_position bigint,
    OUT out_positions bigint[], OUT out_versions bigint[], OUT out_resource_versions bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    the_lock bigint := {schema}.threadkeep_resource_lock_1(in_resource_id);
    the_key bigint;
    the_newest bigint;
    the_active bigint;
    the_version bigint;
    known_ids bytea[];
    known_positions bigint[];
    known_digests bytea[];
    known_place integer;
    many integer := pg_catalog.cardinality(in_ids);
BEGIN
    -- The usual commit, new records to a thread that is there, is one statement; a record that is known breaks a unique
    -- key, and a condition that does not hold finds no row. Either way nothing is written, and all else follows.
    IF many > 0 AND in_drop_after IS NULL
        AND pg_catalog.cardinality(in_slots) = 0 AND pg_catalog.cardinality(in_resource_slots) = 0 THEN
        BEGIN
            WITH here AS (
                UPDATE {schema}.threadkeep_threads AS t
                SET position = t.newest + many, newest = t.newest + many, active = GREATEST(t.active, in_at)
                WHERE t.resource_id = in_resource_id AND t.thread_id = in_thread_id
                    AND (in_if_epoch IS NULL OR t.epoch = in_if_epoch)
                    AND (in_if_tail_epoch IS NULL
                        OR (t.epoch = in_if_tail_epoch AND t.position = in_if_tail_position))
                RETURNING t.key, t.epoch, t.newest
            ), added AS (
                INSERT INTO {schema}.threadkeep_messages (thread_key, position, at, id, digest, body)
                SELECT here.key, here.newest - many + given.place, in_at, given.id, given.digest, given.body
                FROM here, ROWS FROM (
                    pg_catalog.unnest(in_ids), pg_catalog.unnest(in_digests), pg_catalog.unnest(in_bodies)
                ) WITH ORDINALITY AS given (id, digest, body, place)
            )
            SELECT here.epoch, here.newest INTO out_epoch, out_position FROM here;
            IF FOUND THEN
                out_outcome := 'done';
                RETURN;
            END IF;
        EXCEPTION WHEN unique_violation THEN
            NULL;
        END;
    END IF;

    IF pg_catalog.cardinality(in_resource_slots) > 0 THEN
        PERFORM pg_catalog.pg_advisory_xact_lock(the_lock);
    ELSE
        PERFORM pg_catalog.pg_advisory_xact_lock_shared(the_lock);
    END IF;

    <<attempts>>
    LOOP
        out_positions := '{}';
        out_versions := '{}';
        out_resource_versions := '{}';
        the_key := NULL;
        IF in_thread_id IS NOT NULL THEN
            SELECT t.key, t.epoch, t.position, t.newest, t.active
            INTO the_key, out_epoch, out_position, the_newest, the_active
            FROM {schema}.threadkeep_threads AS t
            WHERE t.resource_id = in_resource_id AND t.thread_id = in_thread_id
            FOR UPDATE;
        END IF;
        IF the_key IS NULL THEN
            out_epoch := '';
            out_position := 0;
            the_newest := 0;
        END IF;

        -- The conditions, in the order of the port.
        IF in_if_epoch <> out_epoch THEN
            out_outcome := 'tail';
            RETURN;
        END IF;
        known_ids := NULL;
        IF many > 0 AND the_key IS NOT NULL THEN
            SELECT pg_catalog.array_agg(m.id), pg_catalog.array_agg(m.position), pg_catalog.array_agg(m.digest)
            INTO known_ids, known_positions, known_digests
            FROM {schema}.threadkeep_messages AS m
            WHERE m.thread_key = the_key AND m.id = ANY (in_ids)
                AND (in_drop_after IS NULL OR m.position <= in_drop_after);
            IF known_ids IS NOT NULL THEN
                FOR place IN 1 .. many LOOP
                    known_place := pg_catalog.array_position(known_ids, in_ids[place]);
                    IF known_digests[known_place] <> in_digests[place] THEN
                        out_outcome := 'message';
                        out_named := in_ids[place];
                        RETURN;
                    END IF;
                    out_positions[place] := known_positions[known_place];
                END LOOP;
            END IF;
        END IF;
        IF (in_if_tail_epoch <> out_epoch OR in_if_tail_position <> out_position)
            AND (many = 0 OR in_drop_after IS NOT NULL
                OR pg_catalog.cardinality(known_ids) IS DISTINCT FROM many) THEN
            out_outcome := 'tail';
            RETURN;
        END IF;
        FOR place IN 1 .. pg_catalog.cardinality(in_slots) LOOP
            SELECT d.version INTO the_version FROM {schema}.threadkeep_thread_docs AS d
            WHERE d.thread_key = the_key AND d.slot = in_slots[place];
            the_version := COALESCE(the_version, 0);
            IF in_if_versions[place] <> the_version THEN
                out_outcome := 'version';
                out_named := in_slots[place];
                out_position := the_version;
                RETURN;
            END IF;
            out_versions[place] := the_version + 1;
        END LOOP;
        FOR place IN 1 .. pg_catalog.cardinality(in_resource_slots) LOOP
            SELECT d.version INTO the_version FROM {schema}.threadkeep_resource_docs AS d
            WHERE d.resource_id = in_resource_id AND d.slot = in_resource_slots[place];
            the_version := COALESCE(the_version, 0);
            IF in_resource_if_versions[place] <> the_version THEN
                out_outcome := 'version';
                out_named := in_resource_slots[place];
                out_position := the_version;
                RETURN;
            END IF;
            out_resource_versions[place] := the_version + 1;
        END LOOP;

        -- All conditions hold, and nothing has been written yet.
        EXIT attempts WHEN in_thread_id IS NULL;
        IF the_key IS NOT NULL AND in_drop_after < out_position THEN
            DELETE FROM {schema}.threadkeep_messages AS m
            WHERE m.thread_key = the_key AND m.position > in_drop_after;
            SELECT COALESCE(pg_catalog.max(m.position), 0) INTO out_position
            FROM {schema}.threadkeep_messages AS m WHERE m.thread_key = the_key;
        END IF;
        IF many > 0 THEN
            FOR place IN 1 .. many LOOP
                IF out_positions[place] IS NULL THEN
                    the_newest := the_newest + 1;
                    out_position := the_newest;
                    out_positions[place] := the_newest;
                END IF;
            END LOOP;
        END IF;
        IF the_key IS NOT NULL THEN
            UPDATE {schema}.threadkeep_threads AS t
            SET position = out_position, newest = the_newest, active = GREATEST(the_active, in_at)
            WHERE t.key = the_key;
            EXIT attempts;
        END IF;
        out_epoch := in_epoch;
        INSERT INTO {schema}.threadkeep_threads (resource_id, thread_id, epoch, position, newest, created, active)
        VALUES (in_resource_id, in_thread_id, in_epoch, out_position, the_newest, in_at, in_at)
        ON CONFLICT (resource_id, thread_id) DO NOTHING
        RETURNING key INTO the_key;
        EXIT attempts WHEN the_key IS NOT NULL;
        -- Another writer created the thread meanwhile, so that the conditions are to be tested again.
    END LOOP;

    IF many > 0 AND known_ids IS NULL THEN
        INSERT INTO {schema}.threadkeep_messages (thread_key, position, at, id, digest, body)
        SELECT the_key, given.position, in_at, given.id, given.digest, given.body
        FROM ROWS FROM (
            pg_catalog.unnest(out_positions), pg_catalog.unnest(in_ids),
            pg_catalog.unnest(in_digests), pg_catalog.unnest(in_bodies)
        ) AS given (position, id, digest, body);
    ELSIF pg_catalog.cardinality(known_ids) < many THEN
        INSERT INTO {schema}.threadkeep_messages (thread_key, position, at, id, digest, body)
        SELECT the_key, given.position, in_at, given.id, given.digest, given.body
        FROM ROWS FROM (
            pg_catalog.unnest(out_positions), pg_catalog.unnest(in_ids),
            pg_catalog.unnest(in_digests), pg_catalog.unnest(in_bodies)
        ) AS given (position, id, digest, body)
        WHERE given.id <> ALL (known_ids);
    END IF;
    IF pg_catalog.cardinality(in_slots) > 0 THEN
        INSERT INTO {schema}.threadkeep_thread_docs (thread_key, slot, version, body)
        SELECT the_key, given.slot, given.version, given.body
        FROM ROWS FROM (
            pg_catalog.unnest(in_slots), pg_catalog.unnest(out_versions), pg_catalog.unnest(in_puts)
        ) AS given (slot, version, body)
        ON CONFLICT (thread_key, slot) DO UPDATE SET version = excluded.version, body = excluded.body;
    END IF;
    IF pg_catalog.cardinality(in_resource_slots) > 0 THEN
        INSERT INTO {schema}.threadkeep_resource_docs (resource_id, slot, version, body)
        SELECT in_resource_id, given.slot, given.version, given.body
        FROM ROWS FROM (
            pg_catalog.unnest(in_resource_slots), pg_catalog.unnest(out_resource_versions),
            pg_catalog.unnest(in_resource_puts)
        ) AS given (slot, version, body)
        ON CONFLICT (resource_id, slot) DO UPDATE SET version = excluded.version, body = excluded.body;
    END IF;
    out_outcome := 'done';
END
$$;

-- With in_thread_id NULL, everything of the resource.
CREATE OR REPLACE FUNCTION {schema}.threadkeep_delete_1(in_resource_id bytea, in_thread_id bytea) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    the_lock bigint := {schema}.threadkeep_resource_lock_1(in_resource_id);
    the_keys bigint[];
BEGIN
    IF in_thread_id IS NULL THEN
        PERFORM pg_catalog.pg_advisory_xact_lock(the_lock);
        the_keys := ARRAY (
            SELECT t.key FROM {schema}.threadkeep_threads AS t WHERE t.resource_id = in_resource_id
            ORDER BY t.key FOR UPDATE
        );
        DELETE FROM {schema}.threadkeep_resource_docs AS d WHERE d.resource_id = in_resource_id;
    ELSE
        PERFORM pg_catalog.pg_advisory_xact_lock_shared(the_lock);
        the_keys := ARRAY (
            SELECT t.key FROM {schema}.threadkeep_threads AS t
            WHERE t.resource_id = in_resource_id AND t.thread_id = in_thread_id
            FOR UPDATE
        );
    END IF;
    DELETE FROM {schema}.threadkeep_messages AS m WHERE m.thread_key = ANY (the_keys);
    DELETE FROM {schema}.threadkeep_thread_docs AS d WHERE d.thread_key = ANY (the_keys);
    DELETE FROM {schema}.threadkeep_threads AS t WHERE t.key = ANY (the_keys);
END
$$;
