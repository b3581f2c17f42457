"""Tables: Arrow schemas, shard files, and the run's manifest."""

from codeio_hpc.tables.schemas import TABLES, Table, table_of_id
from codeio_hpc.tables.shards import DamagedShardError, Footer, Identity, Row

__all__ = ["TABLES", "DamagedShardError", "Footer", "Identity", "Row", "Table", "table_of_id"]
