#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one entry: `python3 build.py demo | test | package | backend | bench | ui-test`.

Standard library only. Each command sets up what it misses in .env/ and says what it does; the steps are in
tools/.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - the sentence for those who have an older one
        sys.exit("build.py needs Python 3.11 or 3.13, this is Python {}.{}.".format(*sys.version_info))
    options = parse(sys.argv[1:])
    from backend.installer import SetupError
    from tools.package import PackageError

    try:
        return options.run(options)
    except (SetupError, PackageError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


def parse(arguments: list) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="SANA-WM Shots: demo, tests, packages.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run, summary):
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(run=run)
        return added

    added = command("demo", demo, "make a clip from a blockout scene, from the add-on to the sequencer")
    added.add_argument("--blend", type=Path, help="your own .blend file instead of the demo scene")
    added.add_argument("--camera", help="the camera to use in it (default: the scene's camera)")
    added.add_argument(
        "--preset", default="embedded", help="file name in presets/quality (default: embedded)"
    )
    added = command("test", test, "run ruff, the import rules and all tests")
    added.add_argument("paths", nargs="*", type=Path, help="only these test files or folders")
    added.add_argument("-k", dest="expression", help="only tests that match this pytest expression")
    command("package", package, "build the extension zip in dist/")
    added = command("backend", backend, "set up or repair the backend's environment")
    added.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    added.add_argument("--repair", action="store_true", help="set it up again even if it looks complete")
    added = command("ui-test", ui_test, "drive a real Blender window through the add-on (Linux, root)")
    added.add_argument(
        "--output", type=Path, default=ROOT / "demo_output" / "ui", help="folder for the pictures"
    )
    added.add_argument(
        "--chroot", type=Path, default=ROOT / ".env" / "ui" / "sid", help="where its Debian is or goes"
    )
    added.add_argument("--steps", help="only these steps, such as install,demo_scene,weights")
    added = command("bench", bench, "measure stage 1 and the embedded model, write bench.json")
    added.add_argument("--quick", action="store_true", help="shorter clips and fewer sampler steps")
    return parser.parse_args(arguments)


def demo(options) -> int:
    from tools import demo, environments

    version = environments.blender_versions()[0]
    python, blender = environments.ensure_backend(), environments.ensure_blender(version)
    return demo.run(ROOT, python, blender, options.blend, options.camera, options.preset)


def test(options) -> int:
    from tools import environments, test_runs

    versions = environments.blender_versions()
    python = environments.ensure_backend()
    blenders = {version: environments.ensure_blender(version) for version in versions}
    return test_runs.run(ROOT, python, blenders, options.paths, options.expression)


def package(options) -> int:
    from tools import environments, package

    blender = environments.ensure_blender(environments.blender_versions()[0])
    archive = package.build_zip(ROOT, ROOT / "dist")
    package.validate(archive, blender)
    print(f"{archive} ({archive.stat().st_size / 1e6:.1f} MB), accepted by Blender's extension tool")
    return 0


def backend(options) -> int:
    from tools import environments

    python = environments.ensure_backend(options.device, options.repair)
    print(f"The backend is ready: {python}")
    return 0


def ui_test(options) -> int:
    import subprocess

    from tools import environments

    python = environments.ensure_backend()
    command = [str(python), "-m", "tools.ui_test", "--output", str(options.output.resolve())]
    command += ["--chroot", str(options.chroot.resolve())]
    command += ["--steps", options.steps] if options.steps else []
    return subprocess.run(command, cwd=ROOT, env=environments.clean_variables()).returncode


def bench(options) -> int:
    import subprocess

    from tools import environments

    python = environments.ensure_backend()
    command = [str(python), "-m", "tools.bench", *(["--quick"] if options.quick else [])]
    return subprocess.run(command, cwd=ROOT, env=environments.clean_variables(OMP_NUM_THREADS="1")).returncode


if __name__ == "__main__":
    sys.exit(main())
