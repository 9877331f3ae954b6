"""Products that nobody had bought yet: who finds them, of the systems that can.

Only texts tell of such products, and few purchases are of any, so that the sample of quality.py says little about them. Here
every shopper is asked, and only systems that read texts answer. Same cut, same defaults, same metric code::

    python benchmarks/new_products.py --dataset amazon_office --data amazon_office
"""

import argparse
from pathlib import Path

from quality import QUESTIONS, frozen_encoder
from results import write

from peftrec import Backbone, TrainConfig, evaluate, load_dataset, train_adapter
from peftrec.evaluation.baselines import Baseline, TfidfText, default_baselines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(QUESTIONS), default="amazon_office")
    parser.add_argument("--data", type=Path, help="file or folder of a data set that comes as one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    question, backbone = QUESTIONS[options.dataset], Backbone.load("minilm-l6")
    shop = load_dataset(question.source, options.data)
    past, future = shop.leave_last_out() if question.cut is None else shop.split(at=question.cut)
    adapter = train_adapter(past, backbone, config=TrainConfig(seed=options.seed))
    baselines = [
        *(one for one in default_baselines(seed=options.seed) if one.name == "TF-IDF of text"),
        Baseline("TF-IDF of text alone", [TfidfText(popularity=0)]),
        frozen_encoder(backbone),
    ]
    result = evaluate(adapter, future, baselines=baselines, parts=("cold_products",), seed=options.seed)
    print(result)
    rows = [dict(row) | {"dataset": options.dataset} for row in result.rows()]
    chosen = {baseline.name: str(baseline.chosen) for baseline in baselines}
    write(f"new_products_{options.dataset}", rows, seed=options.seed, chosen=chosen)


if __name__ == "__main__":
    main()
