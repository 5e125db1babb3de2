"""Makes the files beside it with another implementation of the format (pip install pyarrow; python make.py)."""
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

here = pathlib.Path(__file__).parent
rows = pa.table({"id": [1, 2, 3, 4], "text": ["Guten Tag, Welt.", "Здравствуй, мир.\n", None, "三つ目の文書 🎉"]})
for codec in ["NONE", "SNAPPY", "GZIP", "ZSTD", "BROTLI"]:
    pq.write_table(rows, here / f"{codec.lower()}.parquet", compression=codec, row_group_size=2)
pq.write_table(pa.table({"body": ["x"]}), here / "no-text.parquet")
pq.write_table(pa.table({"text": [1, 2]}), here / "numbers.parquet")
pq.write_table(pa.table({"text": pa.array(["good".encode(), "schön".encode("latin1")], pa.binary())}), here / "latin1.parquet")
pq.write_table(pa.table({"doc": [{"text": "inside"}], "id": [1]}), here / "nested.parquet")
