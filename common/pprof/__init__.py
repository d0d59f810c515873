"""Profiles on demand in the pprof format: where this process spends CPU time, and where its memory grows."""

from common.pprof.cpu import cpu_profile
from common.pprof.heap import heap_profile
from common.pprof.limits import LONGEST_S, BadDuration, ProfileBusy

__all__ = ["LONGEST_S", "BadDuration", "ProfileBusy", "cpu_profile", "heap_profile"]
