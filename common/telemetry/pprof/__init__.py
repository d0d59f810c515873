"""Profiles on demand in the pprof format: where this process spends CPU time, and where its memory grows."""

from common.telemetry.pprof.cpu import cpu_profile
from common.telemetry.pprof.heap import heap_profile
from common.telemetry.pprof.profile import LONGEST_S, BadDuration, ProfileBusy

__all__ = ["LONGEST_S", "BadDuration", "ProfileBusy", "cpu_profile", "heap_profile"]
