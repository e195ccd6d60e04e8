"""Maps in KLARF 1.1 and 1.2, the text format of inspection: a die with a defect fails, one that was inspected passes.

Needs the extra ``klarf`` (klarf-reader).
"""

import tempfile
from pathlib import Path

from trm_jax.support.files import DAMAGE, one_line
from trm_jax.wafer.maps.fab.bins import LARGEST_FILE, Die, FoundMap, broken, place
from trm_jax.wafer.maps.readers.text import decode
from trm_jax.wafer.maps.validate import DEFAULTS, ReadOptions


def parse_klarf(content: bytes, options: ReadOptions = DEFAULTS) -> list[FoundMap]:
    """A map for each wafer; bins of defects play no part. Raises ValueError for a file that cannot be read, or does not
    list the dies that were inspected (SampleTestPlan)."""
    try:
        from klarf_reader.klarf import Klarf
    except ImportError:
        raise ValueError("needs the package klarf-reader (pip install 'trm_jax[klarf]')") from None
    if len(content) > LARGEST_FILE:
        raise ValueError(f"is a file of {len(content):,} bytes; {LARGEST_FILE:,} are read")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wafers.klarf"
        path.write_text(decode(content).replace("\r\n", "\n"), encoding="utf-8")
        try:
            found = Klarf.load_from_file(path, parse_summary=False)
        except Exception as error:  # klarf-reader raises this kind itself
            if not isinstance(error, (*DAMAGE, NameError)) and type(error) is not Exception:
                raise
            raise ValueError(f"cannot be read as KLARF: {one_line(error)[:200]}") from None
    plan = found.sample_plan_test
    inspected = [Die(x, y, "P") for x, y in zip(plan.x, plan.y, strict=True)]
    if not inspected:
        raise ValueError("is KLARF without a SampleTestPlan: which dies have no defect is not known")
    places = {(die.x, die.y) for die in inspected}
    maps = []
    for wafer in found.wafers:
        hit = {(defect.x_index, defect.y_index) for defect in wafer.defects} & places
        dies = inspected + [Die(x, y, "F") for x, y in sorted(hit)]
        maps.append(place(dies, frozenset(), str(found.lot_id), str(wafer.id)))
    return maps or [broken("has no wafer")]
