"""Run the experiment of one chapter at the size of its receipt, and write the receipt.

    python scripts/record.py 08
    python scripts/record.py 16 people_street

The experiment is not written here: it is the cells of the chapter that are tagged "protocol", so that the page shows what was
run. One of them defines RECEIPT, the name of the file, and record(), which returns (seeds, numbers). A second experiment has a
tag of its own, which is the name of that function and of the file, too.
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
    parser.add_argument("tag", nargs="?", default="protocol", help="of the cells to run")
    options = parser.parse_args()
    [path] = sources([options.chapter])
    cells = [c for c in jupytext.read(path).cells if options.tag in c.metadata.get("tags", [])]
    names: dict = {"__name__": "protocol"}
    for cell in cells:
        exec(compile(cell.source, str(path), "exec"), names)
    began = time.process_time()
    run, receipt = ("record", names["RECEIPT"]) if options.tag == "protocol" else (options.tag, options.tag)
    seeds, numbers = names[run]()
    seconds = time.process_time() - began
    numbers["protocol"] = digest(*(cell.source for cell in cells))[:12]
    print(write_receipt(receipt, seeds=seeds, seconds=seconds, tier=tier(), numbers=numbers))


if __name__ == "__main__":
    main()
