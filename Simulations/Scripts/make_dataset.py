"""Writes the embedded data set: Simulations/Embedded/data/{train,test}.tsv.

    python3 Simulations/Scripts/make_dataset.py [--seed 7] [--train 3000] [--test 600] [--out FOLDER]

Deterministic: the same seed gives the same bytes. See ticket_grammar.py for what the task asks.
"""

import argparse
import pathlib

import ticket_grammar

TRAIN_SEED_OFFSET, TEST_SEED_OFFSET = 0, 1_000_003


def datasets(seed=7, train=3000, test=600):
    """(train rows, test rows); the test set is drawn first, and the training set avoids its texts."""
    test_rows = ticket_grammar.tickets(seed + TEST_SEED_OFFSET, test, new_things=0.1, new_wording=0.15)
    train_rows = ticket_grammar.tickets(seed + TRAIN_SEED_OFFSET, train, exclude={text for _, text in test_rows})
    return train_rows, test_rows


def write(path, rows):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("label\ttext\n")
        for label, text in rows:
            file.write(f"{label}\t{text}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = pathlib.Path(__file__).resolve().parent.parent / "Embedded" / "data"
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--test", type=int, default=600)
    parser.add_argument("--out", type=pathlib.Path, default=default)
    options = parser.parse_args()
    train_rows, test_rows = datasets(options.seed, options.train, options.test)
    overlap = {text for _, text in train_rows} & {text for _, text in test_rows}
    assert not overlap, f"{len(overlap)} test texts occur in the training set"
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "train.tsv", train_rows)
    write(options.out / "test.tsv", test_rows)
    print(f"{len(train_rows)} training and {len(test_rows)} test tickets, {len(ticket_grammar.TEAMS)} labels -> {options.out}")


if __name__ == "__main__":
    main()
