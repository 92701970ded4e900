"""Two processes that work until Ctrl-C."""

from cluster_tasks import waits

from weft.cluster import cluster
from weft.errors.guard import guarded


def work(_arguments):
    with cluster(workers=2) as here:
        print("at work", flush=True)
        list(here.map(waits, [600] * 4))
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded(work, []))
