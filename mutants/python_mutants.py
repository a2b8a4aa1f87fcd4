"""Mutants of Python.

What changes are comparisons, arithmetic, constants, conditions and slices; what is dropped are arguments, calls, locks
and statements; what is swapped are arguments and values that stand side by side. The statements of SQL are built in
Python: their orders, joins and conditions are calls.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from mutant import Mutant

COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
NAMES: Final = {"min": "max", "max": "min", "bisect_left": "bisect_right", "bisect_right": "bisect_left"}
METHODS: Final = {
    "min": "max",
    "max": "min",
    "asc": "desc",
    "desc": "asc",
    "is_": "is_not",
    "is_not": "is_",
    "in_": "not_in",
    "outerjoin": "join",
}
"""Of statements that are built in Python."""
NOT_SWAPPED: Final = {"Column", "Table", "enumerate", "isinstance", "max", "min", "where", "zip"}
"""Calls where the order of arguments does not matter, or where another one always fails."""


def mutants(source: str) -> list[Mutant]:
    """All mutants of a module, in the order of their places. Each is Python that compiles.

    Annotations, imports, `__all__`, decorators and docstrings are left alone.
    """
    begins = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]
    lines = source.splitlines(keepends=True)

    def place(line: int, column: int) -> int:
        """`ast` counts columns in bytes of UTF-8."""
        return begins[line - 1] + len(lines[line - 1].encode()[:column].decode())

    found = []
    for node, new, kind in _changes(ast.parse(source)):
        start = place(node.lineno, node.col_offset)
        # Always there, in a tree that `ast.parse` made.
        end = place(node.end_lineno or 0, node.end_col_offset or 0)
        mutant = Mutant(start, end, new, kind)
        try:
            compile(mutant.apply(source), "mutant", "exec", dont_inherit=True)
        except SyntaxError:
            continue
        found.append(mutant)
    return sorted(set(found))


def _changes(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:
    """Each change: what is replaced, the text that takes its place, and what kind of change it is."""
    for node in _walk(tree):
        if isinstance(node, ast.stmt):
            yield from _statement(node)
        elif isinstance(node, ast.expr):
            for new, kind in _expression(node):
                # Within the parentheses of an f-string or a chain, an expression stays one.
                yield node, f"({ast.unparse(new)})", kind


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Assign(targets=[ast.Name(id="__all__")]):
            return
        case ast.keyword(arg="comment"):
            return  # for people, in a schema
        case ast.JoinedStr():
            return  # places within f-strings are not exact before Python 3.12
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return
        case ast.AnnAssign(value=value):
            children: list[ast.AST] = [value] if value else []
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            defaults = [default for default in (*node.args.defaults, *node.args.kw_defaults) if default]
            children = [*defaults, *_body(node.body)]
        case ast.ClassDef():
            children = [*node.keywords, *_body(node.body)]
        case ast.Module():
            children = [*_body(node.body)]
        case _:
            children = list(ast.iter_child_nodes(node))
    for child in children:
        yield from _walk(child)


def _body(body: list[ast.stmt]) -> list[ast.stmt]:
    """Without docstrings, of the module or function and of attributes."""
    return [
        statement
        for statement in body
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
    ]


def _statement(node: ast.stmt) -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:
    match node:
        case ast.Expr() | ast.AugAssign() | ast.Delete() | ast.Raise():
            yield node, "pass", "statement dropped"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "pass", "statement dropped"
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield node, "return None", "nothing returned"
        case ast.Break():
            yield node, "continue", "break goes on"
        case ast.Continue():
            yield node, "break", "continue ends the loop"
        case ast.If(test=test) | ast.While(test=test):
            yield test, f"(not ({ast.unparse(test)}))", "condition turned round"
            if isinstance(node, ast.If):
                yield test, "True", "condition always true"
            yield test, "False", "condition never true"
        case ast.With(items=items) | ast.AsyncWith(items=items):
            for item in items:
                if item.optional_vars is None:
                    # What is left has the same shape and guards nothing.
                    name = "nullcontext()"
                    yield item.context_expr, f"__import__('contextlib').{name}", "lock or context dropped"
        case _:
            pass


def _expression(node: ast.expr) -> Iterator[tuple[ast.expr, str]]:
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=comparators):
            for other in COMPARISONS[type(operator)]:
                yield ast.Compare(left, [other()], comparators), "comparison"
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in ARITHMETIC:
            yield ast.BinOp(left, ARITHMETIC[type(operation)](), right), "arithmetic"
        case ast.BoolOp(op=boolean, values=values):
            yield ast.BoolOp(ast.And() if isinstance(boolean, ast.Or) else ast.Or(), values), "and/or"
            for number in range(len(values)):
                kept = values[:number] + values[number + 1 :]
                yield kept[0] if len(kept) == 1 else ast.BoolOp(boolean, kept), "part of a condition dropped"
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand, "sign or not dropped"
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value), "constant"
        case ast.Constant(value=int(number)):
            yield ast.Constant(number + 1), "constant"
            yield ast.Constant(number - 1), "constant"
        case ast.Constant(value=str(text)):
            yield ast.Constant(f"{text}?"), "constant"
        case ast.IfExp(body=body, orelse=orelse):
            yield body, "choice always the first"
            yield orelse, "choice always the second"
        case ast.Subscript(value=value, slice=ast.Slice(lower=lower, upper=upper)):
            if lower is not None:
                yield ast.Subscript(value, ast.Slice(None, upper), ast.Load()), "slice from the beginning"
            if upper is not None:
                yield ast.Subscript(value, ast.Slice(lower, None), ast.Load()), "slice to the end"
        case ast.Name(id=name) if name in NAMES:
            yield ast.Name(NAMES[name]), "function"
        case ast.Tuple(elts=elements, ctx=ast.Load()):
            for swapped in _swapped(elements):
                yield ast.Tuple(swapped), "swapped"
        case ast.Call():
            yield from _call(node)
        case _:
            pass


def _swapped(values: list[ast.expr]) -> Iterator[list[ast.expr]]:
    """The values with two swapped that stand side by side and differ."""
    for number in range(len(values) - 1):
        first, second = values[number : number + 2]
        if not isinstance(second, ast.Starred) and ast.unparse(first) != ast.unparse(second):
            yield [*values[:number], second, first, *values[number + 2 :]]


def _call(node: ast.Call) -> Iterator[tuple[ast.expr, str]]:
    if ast.unparse(node.func).rpartition(".")[2] not in NOT_SWAPPED:
        for swapped in _swapped(node.args):
            yield ast.Call(node.func, swapped, node.keywords), "swapped"
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        other = ast.Attribute(node.func.value, METHODS[node.func.attr], ast.Load())
        yield ast.Call(other, node.args, node.keywords), "function"
    # A function or class that lacks an argument is refused by Python; what hangs on an object may take fewer.
    if isinstance(node.func, ast.Attribute) and len(node.args) > 1:
        for number in range(len(node.args)):
            kept = node.args[:number] + node.args[number + 1 :]
            yield ast.Call(node.func, kept, node.keywords), "argument dropped"
    for number in range(len(node.keywords)):
        fewer = node.keywords[:number] + node.keywords[number + 1 :]
        yield ast.Call(node.func, node.args, fewer), "argument dropped"
    if len(node.args) == 1 and not node.keywords and isinstance(node.func, ast.Name):
        yield node.args[0], "call dropped"
    if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call):
        # `.where(...)`, `.order_by(...)` and their like, of a statement that is built in a chain
        yield node.func.value, "call in a chain dropped"
