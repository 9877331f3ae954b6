"""What each augmentation of texts and histories does to an adapter, on clean and on perturbed texts.

Amazon's office products (MiniOneRec's copy): texts are long, histories short, and only the order of events is known, so the
last event of each shopper is left out. One adapter is trained without augmentation and one with each; differences are
paired over shoppers. ``typos``, ``reordered`` and ``title only`` evaluate the same adapters where every product's text is
written with typing errors, in another order of words, or without its attributes. Back-translation is measured where two
translation models are given. Run it alone on the machine::

    python benchmarks/augmentation.py --data amazon_office
    python benchmarks/augmentation.py --data amazon_office --there Helsinki-NLP/opus-mt-en-de --back Helsinki-NLP/opus-mt-de-en
"""

import argparse
from dataclasses import replace
from pathlib import Path

from perturbing import conditions
from results import write
from sampling import some

from peftrec import Backbone, TrainConfig, evaluate, load_dataset, train_adapter
from peftrec.data.augment import AttributeDrop, Crop, EventDrop, ReorderWithinBasket, SynonymReplacement, WordDrop
from peftrec.errors import MissingExtraError
from peftrec.evaluation import Evaluation
from peftrec.text.translate import BackTranslation
from peftrec.training import Augmentation

CONFIG = TrainConfig(anchors=2)
"""Days are made up from the order of events, one a day: the next event lies within one."""

OFFICE = {
    "pen": ["ballpoint", "writer"],
    "pens": ["ballpoints", "writers"],
    "paper": ["sheets"],
    "binder": ["folder", "ring binder"],
    "binders": ["folders"],
    "notebook": ["notepad", "journal"],
    "tape": ["adhesive tape", "sticky tape"],
    "labels": ["stickers", "tags"],
    "printer": ["printing machine"],
    "ink": ["toner"],
    "calculator": ["adding machine"],
    "desk": ["table", "workstation"],
    "envelopes": ["mailers"],
    "marker": ["felt pen"],
    "markers": ["felt pens"],
    "stapler": ["stapling machine"],
    "scissors": ["shears"],
    "phone": ["telephone"],
    "pack": ["set", "package"],
    "box": ["carton"],
    "black": ["jet black"],
    "assorted": ["mixed", "various"],
    "colors": ["colours"],
    "durable": ["sturdy", "robust"],
    "office": ["workplace"],
}
"""Synonyms where WordNet is not installed: words that are frequent in these titles."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with items.parquet and interactions.parquet")
    parser.add_argument("--there", help="folder or hub id of a translation model")
    parser.add_argument("--back", help="the model that translates back")
    parser.add_argument("--asked", type=int, default=800, help="shoppers that are asked about, drawn evenly")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shop, backbone = load_dataset("amazon", options.data), Backbone.load("minilm-l6")
    past, future = shop.leave_last_out()
    future = some(future, options.asked, seed=options.seed)
    adapters = {}
    for name, augmentation in _augmentations(options.there, options.back).items():
        config = replace(CONFIG, seed=options.seed, augmentation=augmentation)
        adapters[name] = train_adapter(past, backbone, config=config)
    rows: list[dict[str, object]] = []
    for condition, part in conditions(future, seed=options.seed).items():
        systems = [adapter.recommender(name=name) for name, adapter in adapters.items()]
        result: Evaluation = evaluate(systems, part, baselines=None, seed=options.seed)
        print(condition, result, sep="\n")
        rows += [dict(row) | {"dataset": f"{shop.name}, {condition}"} for row in result.rows()]
    write("augmentation_amazon_office", rows, seed=options.seed)


def _augmentations(there: str | None, back: str | None) -> dict[str, Augmentation | None]:
    try:
        name, synonyms = "synonyms, WordNet", SynonymReplacement(0.5)
    except MissingExtraError:
        name, synonyms = "synonyms, short dictionary", SynonymReplacement(0.5, OFFICE)
    found = {
        "no augmentation": None,
        name: Augmentation(text=synonyms),
        "word drop": Augmentation(text=WordDrop()),
        "attribute drop": Augmentation(attributes=AttributeDrop()),
        "event drop": Augmentation(history=EventDrop()),
        "crop": Augmentation(history=Crop()),
        "reorder within basket": Augmentation(history=ReorderWithinBasket()),
    }
    if there and back:
        found["back-translation"] = Augmentation(text=BackTranslation(there, back))
    return found


if __name__ == "__main__":
    main()
