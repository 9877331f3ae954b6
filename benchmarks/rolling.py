"""The lead over the strongest baselines in further windows of five weeks: one window has luck of its own.

For each cut, trains on everything before it and predicts the five weeks after it, over the full catalogue, beside the
strongest baselines of quality.py. No choice was made on these windows. Their pooled result averages each shopper's numbers
over the windows and resamples shoppers. Run it alone on the machine::

    python benchmarks/rolling.py --dataset completejourney
    python benchmarks/rolling.py --dataset online_retail --data uci_online_retail.parquet
"""

import argparse
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from quality import boosting
from results import write

from peftrec import Backbone, TrainConfig, evaluate, load_dataset, train_adapter
from peftrec.evaluation import Evaluation
from peftrec.evaluation.baselines import default_baselines

CUTS = {
    "completejourney": ("2017-05-01T04:00", "2017-06-05T04:00", "2017-07-10T04:00"),
    "online_retail": ("2011-05-13", "2011-06-17", "2011-07-22"),
}
HORIZON = timedelta(weeks=5)
STRONGEST = ("personal, decayed", "UP-CF")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(CUTS), default="completejourney")
    parser.add_argument("--data", type=Path, help="file of a data set that comes as one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shop, backbone = load_dataset(options.dataset, options.data), Backbone.load("minilm-l6")
    windows: list[Evaluation] = []
    rows: list[dict[str, object]] = []
    for cut in map(datetime.fromisoformat, CUTS[options.dataset]):
        past, rest = shop.split(at=cut)
        future = rest.window(end=cut + HORIZON)
        adapter = train_adapter(past, backbone, config=TrainConfig(seed=options.seed))
        classic = [baseline for baseline in default_baselines(seed=options.seed) if baseline.name in STRONGEST]
        boosted = boosting(backbone, past, options.seed)
        window = evaluate(adapter, future, baselines=[*classic, *boosted], seed=options.seed)
        print(window)
        print({baseline.name: str(baseline.chosen) for baseline in boosted})
        windows.append(window)
        rows += [dict(row) for row in replace(window, dataset=f"{options.dataset} from {cut:%Y-%m-%d}").rows()]
    pooled = Evaluation.pooled(windows)
    print(pooled)
    write(f"rolling_{options.dataset}", [*map(dict, pooled.rows()), *rows], seed=options.seed)


if __name__ == "__main__":
    main()
