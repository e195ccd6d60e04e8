"""Maps in STDF, the binary format of testers: a wafer from WIR to WRR, with a PRR for each die that was tested.

Needs the extra ``stdf`` (Semi-ATE-STDF).
"""

import io

from trm_jax.support.files import DAMAGE, one_line
from trm_jax.wafer.maps.fab.bins import Die, FoundMap, broken, place
from trm_jax.wafer.maps.validate import DEFAULTS, ReadOptions

_RECORDS = ["MIR", "WIR", "WRR", "PRR"]
_NOWHERE = -32768
_FAILED, _UNJUDGED = 4, 3  # among the eight letters of PART_FLG, the highest bit first


def is_stdf(head: bytes) -> bool:
    """Whether a file begins with a record FAR, of STDF 4 and a known order of bytes."""
    return len(head) >= 6 and head[2:4] == b"\x00\x0a" and head[4] in (1, 2) and head[5] == 4


def parse_stdf(content: bytes, options: ReadOptions = DEFAULTS) -> list[FoundMap]:
    """A map for each wafer, in the order in which they begin; of a die tested again the last result counts.

    A die passes if it is in ``pass_bins`` (hardware bins), without them if its PART_FLG says so. Raises ValueError for
    a file that is damaged or has no wafers.
    """
    try:
        from Semi_ATE.STDF import STDFError, records_from_file
    except ImportError:
        raise ValueError("needs the package Semi-ATE-STDF (pip install 'trm_jax[stdf]')") from None
    wafers: dict[tuple[str, str], list[Die]] = {}
    running: dict[int, tuple[str, str]] = {}
    lot = ""
    try:
        for record in records_from_file(io.BytesIO(content), of_interest=_RECORDS):
            value = record.get_value
            if record.id == "MIR":
                lot = str(value("LOT_ID")).strip()
            elif record.id == "WIR":
                running[value("HEAD_NUM")] = lot, str(value("WAFER_ID")).strip()
                wafers.setdefault(running[value("HEAD_NUM")], [])
            elif record.id == "WRR":
                running.pop(value("HEAD_NUM"), None)
            elif value("HEAD_NUM") in running and _NOWHERE not in (value("X_COORD"), value("Y_COORD")):
                flags, place_ = value("PART_FLG"), (value("X_COORD"), value("Y_COORD"))
                if options.pass_bins or flags[_UNJUDGED] == "0":
                    result = str(value("HARD_BIN")) if options.pass_bins else "FP"[flags[_FAILED] == "0"]
                    wafers[running[value("HEAD_NUM")]].append(Die(*place_, result))
    except (*DAMAGE, STDFError) as error:
        raise ValueError(f"is damaged or not STDF: {one_line(error)[:200]}") from None
    if not wafers:
        raise ValueError("is STDF without wafers (records WIR)")
    cut = set(running.values())
    return [
        broken("ends without a record WRR: the file is cut off", *wafer)
        if wafer in cut
        else place(dies, options.pass_bins, *wafer)
        for wafer, dies in wafers.items()
    ]
