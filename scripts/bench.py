"""``fieldmorph bench``: how fast the operations and the whole job are on this machine."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import UseAppendAction, arg

from .. import __version__, progress
from ..errors import UserError
from .info import LIBRARIES, version_of
from .options import Talk, WarmUp, check_file_target, choose, open_scene, start_folder, value

if TYPE_CHECKING:
    import torch

    from ..datasets.scene import Scene


@dataclass(frozen=True, kw_only=True)
class Bench(Talk):
    """Measure the operations and the training on this machine's CPU, or on its GPU with --device cuda.

    Each operation: items per second, ratio to the reference, share of the machine's measured multiply-add or memory rate.
    Training: PSNR on held-out views against seconds, and pictures per second.
    Phases: where a picture's time goes, by separate operations and in one launch, and what the emulator of NGPC makes of it.
    """

    device: Annotated[str, arg(metavar="D")] = "cpu"
    """cpu, cuda, cuda:1, …: what to measure."""
    kernels: Annotated[str, arg(metavar="K")] = "auto"
    """auto, reference, cpu, cuda or tcnn: what trains and renders, and what the operations of the reference are compared with (auto:
    all that work here)."""
    only: Annotated[
        Literal["operations", "training", "viewer", "phases"] | None, value("PART", "operations and training, phases on a GPU")
    ] = None
    """operations, training, phases, or viewer: a window of 800x800, which needs --view."""
    size: Annotated[tuple[str, ...], value("SIZE", "1080p, 4k and 8k; 320x180 on a CPU"), UseAppendAction] = ()
    """Size of a picture whose phases are measured: 1080p, 4k, 8k or WIDTHxHEIGHT; may be given several times."""
    family: Annotated[tuple[str, ...], value("NAME", "operations: all, training: hashgrid"), UseAppendAction] = ()
    """A family of representation; may be given several times."""
    samples: Annotated[int, value("N", "32768")] = 32768
    """Samples along rays that the operations work on."""
    repeats: Annotated[int, value("N", "5")] = 5
    """Measurements of each operation; the median counts."""
    data: Annotated[Path | None, value("DATA", "lego in $FIELDMORPH_DATA, else the project's own scene")] = None
    """Dataset to train on."""
    seconds: Annotated[float, value("S", "90")] = 90.0
    """Seconds of training."""
    views: Annotated[int, value("N", "5")] = 5
    """Held-out views that score it."""
    view: Annotated[Path | None, value("FIELD_OR_RUN")] = None
    """With --only viewer: what the window shows."""
    soak: Annotated[float, value("S", "0")] = 0.0
    """With --only viewer: seconds of random input after the measurements."""
    out: Annotated[Path | None, value("FOLDER")] = None
    """Folder for the results, a file named after CPU and date."""
    json: Annotated[Path | None, value("FILE")] = None
    """Write the results to this file."""
    against: Annotated[Path | None, value("FILE")] = None
    """Compare with the results in this file."""
    compare: Annotated[tuple[Path, Path] | None, value("BEFORE AFTER")] = None
    """Only compare two files of results."""

    plot: Annotated[Path | None, value("FILE")] = None
    """Draw PSNR against seconds of training as PNG."""
    curves: Annotated[tuple[Path, ...], value("FILE"), UseAppendAction] = ()
    """With --plot: measure nothing, draw the curves of these files of results; may be given several times."""

    def run(self) -> int:
        self.talk()
        import torch

        from ..benchmarks.results import file_name, load_results, new_results, save_results
        from ..benchmarks.training import draw_curves

        if self.compare is not None:
            show_changes(*(load_results(path) for path in self.compare))
            return 0
        self._check()
        if self.curves:
            assert self.plot is not None
            runs = [run for path in self.curves for run in load_results(path)["training"]]
            if not runs:
                raise UserError("the --curves files hold no training; name files that fieldmorph bench wrote with it")
            draw_curves(runs, self.plot)
            progress.say(f"wrote {self.plot}")
            return 0
        earlier = None if self.against is None else load_results(self.against)
        from ..benchmarks.gpu import parse_sizes
        from ..benchmarks.machine import describe_cpu, measure_roofline
        from ..benchmarks.operations import known_families

        known_families(self.family)
        device = choose(self.device, self.kernels)
        sizes = parse_sizes(self.size or (("1080p", "4k", "8k") if device.type == "cuda" else ("320x180",)))
        scene = self._given_scene() if self.only in (None, "training") else None
        shown = self._shown() if self.only == "viewer" else ""
        if self.out is not None:
            start_folder(self.out)
        cpu, roof = describe_cpu(), measure_roofline(device=device)
        libraries = {name: version_of(name) for name in LIBRARIES if version_of(name) != "not installed"}
        settings = {name: getattr(self, name) for name in ("kernels", "samples", "repeats", "seconds", "views")}
        results = new_results(__version__, cpu, libraries, asdict(roof), settings)
        name = f"{cpu['name']}, {cpu['cores']} cores"
        if device.type == "cuda":
            results["gpu"] = name = torch.cuda.get_device_name(device)
        progress.say(f"{name}: {roof.flops / 1e9:.0f} GFLOP/s, {roof.bytes / 1e9:.1f} GB/s")
        if self.only in (None, "operations"):
            results["operations"] = self._operations(roof, device)
            results["cancel"] = self._cancel() if device.type == "cpu" else {}
        if self.only in (None, "training"):
            results["training"] = self._training(device, scene)
        if self.only == "viewer":
            results["viewer"] = self._viewer(shown)
        if self.only == "phases" or (self.only is None and device.type == "cuda"):
            results["phases"] = self._phases(device, sizes)
        if self.plot is not None and results["training"]:
            draw_curves(results["training"], self.plot)
            progress.say(f"wrote {self.plot}")
        for path in (self.json, self.out and self.out / file_name(results)):
            if path is not None:
                save_results(results, path)
                progress.say(f"wrote {path}")
        if earlier is not None:
            show_changes(earlier, results)
        return 0

    def _check(self) -> None:
        for name, number, most in (("samples", self.samples, 1 << 22), ("repeats", self.repeats, 1000), ("views", self.views, 1000)):
            if not 1 <= number <= most:
                raise UserError(f"--{name} {number}: give 1 to {most}")
        if not 0 < self.seconds < 1e6:
            raise UserError(f"--seconds {self.seconds}: give a positive number")
        if (self.only == "viewer") != (self.view is not None):
            raise UserError("--only viewer and --view FIELD_OR_RUN go together: name the field that the window shall show")
        if not 0.0 <= self.soak < 1e6:
            raise UserError(f"--soak {self.soak}: give seconds")
        if self.json is not None:
            check_file_target(self.json, "--json")
        if self.plot is not None:
            check_file_target(self.plot, "--plot")
        if self.curves and self.plot is None:
            raise UserError("--curves are for --plot: say which file to draw them into")

    def _phases(self, device: torch.device, sizes: list[tuple[int, int]]) -> list[dict[str, Any]]:
        from ..benchmarks.gpu import PHASES, measure_frame, table
        from ..benchmarks.ngpc import SCALES

        frames = [measure_frame(device, *size, self.repeats) for size in sizes]
        progress.say(f"milliseconds of a picture of a shell on {device}, kernels {frames[0]['kernels']}:")
        progress.table(("picture", *PHASES, "in all", "one launch", "gain"), table(frames))
        progress.say(
            "NGPC: measured share of encoding and networks, modelled speed-up pipelined / serial / bound, and the paper's (RTX 3090):"
        )
        rows = []
        for f in frames:
            for n in SCALES:
                m = f["modelled"][str(n)]
                modelled = f"{m['pipelined']:.1f}x / {m['serial']:.1f}x / {m['bound']:.1f}x, by {m['limit']}"
                rows.append((f"{f['width']}x{f['height']}", f"{100 * f['field_share']:.0f} %", n, modelled, f"{f['paper'][str(n)]:.1f}x"))
        progress.table(("picture", "measured", "processors", "modelled", "paper"), rows)
        return frames

    def _operations(self, roof: Any, device: torch.device) -> list[dict[str, Any]]:
        from ..benchmarks.operations import cases, implementations, known_families, measure

        among, families = implementations(device, self.kernels), known_families(self.family)
        measured = []
        found = list(cases(families, self.samples, device))
        with progress.Bar("operations", len(found), "measured") as bar:
            for case in found:
                measured.append(measure(case, among, self.repeats, roof, device))
                bar.advance(last=case.name)
        rows = []
        for row in measured:
            for name, numbers in row["implementations"].items():
                share = next((f"{100 * numbers[k]:.0f} % of {what}" for k, what in SHARES if k in numbers), "")
                rows.append((row["name"], name, f"{_short(numbers['rate'])} {row['unit']}/s", f"{numbers['ratio']:.1f}x", share))
        progress.table(("operation", "kernels", "rate", "to reference", "roofline"), rows)
        return measured

    def _cancel(self) -> dict[str, float]:
        from .. import kernels
        from ..benchmarks.operations import cancel_latency

        if not hasattr(kernels.ops("cpu"), "CancelFlag"):
            return {}
        found = cancel_latency()
        progress.say(f"a rendering ends {1e3 * found['median']:.1f} ms after it is cancelled (worst of nine {1e3 * found['worst']:.1f} ms)")
        return found

    def _training(self, device: torch.device, scene: Scene | None) -> list[dict[str, Any]]:
        from ..benchmarks.training import measure_training

        with tempfile.TemporaryDirectory() as folder:
            scene = scene or self._own_scene(Path(folder))
            runs = []
            for family in self.family or ("hashgrid",):
                WarmUp(family, device).wait()
                with progress.Bar(f"train {family} on {scene.name}", 1.0) as bar:
                    runs.append(
                        measure_training(
                            scene,
                            family,
                            self.seconds,
                            self.views,
                            lambda done, spent, psnr: bar.update(done, count=spent, psnr=round(psnr, 2)),
                            str(device),
                        )
                    )
                progress.table(("seconds", "steps", "psnr"), [(p["seconds"], int(p["step"]), p["psnr"]) for p in runs[-1]["curve"]])
                speed = ", ".join(f"{rate:.2f}/s at {size}" for size, rate in runs[-1]["frames_per_second"].items())
                progress.say(f"{family}: pictures {speed}; peak memory {progress.format_bytes(runs[-1]['peak_bytes'])}")
        if len(runs) > 1:
            progress.say(f"{scene.name}, {self.seconds:g} s of training each, {runs[0]['views']} held-out views:")
            progress.table(("family", "PSNR", "SSIM", "pictures/s", "parameters", "file"), [_summary(run) for run in runs])
        return runs

    def _shown(self) -> str:
        """The family of the field to look at."""
        from ..training import load_run_or_field

        assert self.view is not None
        return load_run_or_field(self.view).family

    def _viewer(self, family: str) -> dict[str, Any]:
        import torch

        from ..benchmarks.viewer import measure_viewer

        assert self.view is not None
        for name in (family, "voxels"):  # the preview is voxels
            WarmUp(name, torch.device("cpu")).wait()
        with progress.Bar("viewer", 1.0) as bar:
            found = measure_viewer(self.view, soak=self.soak, told=lambda part, share: bar.update(share, part=part))
        still, latency, moving = found["still"], found["latency"], found["moving"]
        rows = [
            ("input to first frame", f"{latency['median']:.0f} ms (worst {latency['worst']:.0f})"),
            ("pictures a second while moving", f"{moving['pictures_per_second']:.1f}"),
            ("slowest hundredth of them", f"{moving['slowest_hundredth_ms']:.0f} ms"),
            ("resolution of the moving picture", f"{100.0 * moving['scale']:.0f} % of the window's width"),
            ("PSNR of the moving picture to the full field", f"{moving['psnr']:.1f} dB"),
            ("time per moving picture", f"{moving['render_ms']:.0f} ms to render, {moving['draw_ms']:.0f} ms to draw the window"),
            (
                "from letting go to the full picture",
                f"{still['full_seconds']['median']:.2f} s (worst {still['full_seconds']['worst']:.2f})",
            ),
            (f"and to {still['samples']} samples a pixel", f"{still['all_samples_seconds']:.1f} s"),
        ]
        if "soak" in found:
            soak = found["soak"]
            sizes = f"{progress.format_bytes(soak['warm_bytes'])} to {progress.format_bytes(soak['end_bytes'])}"
            rows.append((f"memory over {soak['seconds']:.0f} s of random input", f"{sizes}, {100.0 * soak['growth']:+.1f} %"))
            rows.append(("failures shown", "; ".join(soak["failures"]) or "none"))
        progress.say(f"{found['field']} ({found['family']}) in a window of {found['size']}x{found['size']}, {found['display']}")
        progress.table(("figure", "measured"), rows)
        return found

    def _given_scene(self) -> Scene | None:
        """The scene to train on, or None where one has to be made."""
        data = self.data
        lego = Path(os.environ.get("FIELDMORPH_DATA", "")) / "lego"
        if data is None and os.environ.get("FIELDMORPH_DATA") and lego.is_dir():
            data = lego
        if data is None:
            return None
        scene = open_scene(data)
        if not scene.split.get("test"):
            raise UserError(f"{data}: has no test images to score; choose another --data")
        return scene

    def _own_scene(self, folder: Path) -> Scene:
        from .data import write_scene

        write_scene(folder / "own scene", {"train": 100, "val": 1, "test": self.views}, size=200)
        return open_scene(folder / "own scene")


def show_changes(before: dict[str, Any], after: dict[str, Any]) -> None:
    """The figures of two results side by side, and what else differs between them."""
    from ..benchmarks.results import compare, differences

    progress.table(("figure", "before", "after", "change"), compare(before, after))
    unlike = differences(before, after)
    if unlike:
        progress.warn(f"the two were not measured alike ({'; '.join(unlike)}); the changes are not the program's alone")


def _summary(run: dict[str, Any]) -> tuple[str, ...]:
    rate = next(iter(run["frames_per_second"].values()))
    size = progress.format_bytes(run["file_bytes"])
    return run["family"], f"{run['psnr']:.2f} dB", f"{run['ssim']:.4f}", f"{rate:.2f}", f"{run['parameters'] / 1e6:.2f} M", size


SHARES = (("flops_share", "multiply-adds"), ("bytes_share", "memory"))


def _short(rate: float) -> str:
    return f"{rate / 1e6:.2f} M" if rate >= 1e5 else f"{rate / 1e3:.1f} k"
