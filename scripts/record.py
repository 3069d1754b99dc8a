"""Run the experiment of one chapter at the size of its receipt, and write the receipt.

    python scripts/record.py 08

The experiment is not written here: it is the cells of the chapter that are tagged "protocol", so that the page shows what was
run. One of them defines RECEIPT, the name of the file, and record(), which returns (seeds, numbers).
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jupytext
from chapters import sources

from sora_nb.files import digest
from sora_nb.ledger import write_receipt
from sora_nb.settings import tier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapter", help='number of the chapter, such as "08"')
    [path] = sources([parser.parse_args().chapter])
    cells = [c for c in jupytext.read(path).cells if "protocol" in c.metadata.get("tags", [])]
    names: dict = {"__name__": "protocol"}
    for cell in cells:
        exec(compile(cell.source, str(path), "exec"), names)
    began = time.process_time()
    seeds, numbers = names["record"]()
    seconds = time.process_time() - began
    numbers["protocol"] = digest(*(cell.source for cell in cells))[:12]
    print(write_receipt(names["RECEIPT"], seeds=seeds, seconds=seconds, tier=tier(), numbers=numbers))


if __name__ == "__main__":
    main()
