"""What `torch.hub` looks for::

model = torch.hub.load("samples/tiny_detector", "tiny_detector", source="local")
results = model(frame)          # (H, W, 3) uint8, RGB
results.xyxy[0]                 # (N, 6): x1, y1, x2, y2, confidence, class
"""

import importlib as _importlib
import importlib.util as _importlib_util
import sys as _sys
from pathlib import Path as _Path
from typing import Any as _Any

dependencies = ["torch", "numpy"]

_FOLDER = _Path(__file__).resolve().parent
_PACKAGE = "_tiny_detector_from_hub"


def _this_folder_as_package() -> None:
    """The modules beside this file, as a package with a name of its own.

    While it runs this file, torch.hub has the folder on `sys.path`; a plain ``import net`` would
    work, and would find, or become, whatever the notebook itself calls ``net``.
    """
    source = _FOLDER / "__init__.py"
    loaded = _sys.modules.get(_PACKAGE)
    if loaded is not None and loaded.__file__ == str(source):
        return
    for name in [name for name in _sys.modules if name.startswith(f"{_PACKAGE}.")]:
        del _sys.modules[name]
    spec = _importlib_util.spec_from_file_location(
        _PACKAGE, source, submodule_search_locations=[str(_FOLDER)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {source}")
    package = _importlib_util.module_from_spec(spec)
    _sys.modules[_PACKAGE] = package
    spec.loader.exec_module(package)


def tiny_detector(pretrained: bool = True, *, conf: float = 0.25, iou: float = 0.45) -> _Any:
    """A detector of robots, balls, cubes, cones, cups and chargers on the rendered table.

    Takes ``(H, W, 3)`` uint8 pictures in RGB, one or a list; returns an object with the interface of
    YOLOv5's results (``xyxy``, ``names``, ``pandas()``, ...). `conf` is the least confidence of a
    detection; boxes of a class that overlap by more than `iou` are one. Both may be set later, as
    attributes. Needs no network; `pretrained=False` gives random weights.
    """
    _this_folder_as_package()
    detector = _importlib.import_module(f"{_PACKAGE}.detector")
    return detector.load_detector(detector.WEIGHTS if pretrained else None, conf=conf, iou=iou)
