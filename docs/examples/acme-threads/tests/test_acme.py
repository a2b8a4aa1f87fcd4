import tempfile

from threadkeep_contract import ContractSuite


class TestAcme(ContractSuite):
    url = f"acme://{tempfile.mkdtemp()}/threads.acme"
