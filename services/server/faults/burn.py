"""The fault `cpu_burn`: a computation that nobody needs, under a name that a profile shows."""

import time

SOME = ("russet_sly_otter", "rusty_shy_otter", "ruby_odd_otter")


def compare_all_names(names: list[str], seconds: float) -> int:
    """Compare each name with each other for `seconds` of this thread's CPU time; give how many letters they share."""
    end, shared = time.thread_time() + seconds, 0
    known = names or list(SOME)
    while True:
        for one in known:
            for other in known:
                shared += len(set(one) & set(other))
                if time.thread_time() >= end:
                    return shared
