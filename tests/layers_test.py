"""The layer rule: app -> views -> storage -> profiler -> engine, read from the include lines of every source file.

Also: libraries that belong to one layer stay there, and no file outgrows what a reader can hold in mind.
Usage: layers_test.py PROJECT_ROOT
"""

import pathlib
import re
import sys

LAYERS = ["app", "views", "storage", "profiler", "engine"]  # left may include right
SOURCE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".inc"}
MAX_LINES = 600
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')

# What may be included only from some layers: name for the message, pattern of the header, layers.
CONFINED = [
    ("Dear ImGui and ImPlot", re.compile(r"^(.*/)?(imgui|implot|imstb|imgui_impl|imgui_te)[a-z0-9_]*\.h$"), {"app", "views"}),
    ("GLFW and OpenGL", re.compile(r"^(GLFW|GL|EGL)/"), {"app", "views"}),
    ("SQLite", re.compile(r"^sqlite3(ext)?\.h$"), {"storage"}),
    ("CUPTI", re.compile(r"^(cupti|generated_cuda).*\.h$"), {"profiler"}),
    ("CUDA", re.compile(r"^(cuda|cublas|curand|cub/|thrust/|nvtx3?/|nvToolsExt)"), {"engine", "profiler"}),
    ("CLI11", re.compile(r"^CLI/"), {"app"}),
]
CUPTI_FILES_AT_MOST = 1


def sources(root, folder):
    return sorted(p for p in (root / folder).rglob("*") if p.suffix in SOURCE_SUFFIXES)


def includes(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1)


def check_include(layer, included):
    """What is wrong with one include line in a layer, or None."""
    target = included.split("/")[0]
    if target in LAYERS and LAYERS.index(target) < LAYERS.index(layer):
        return f"{layer}/ may not include {target}/"
    if target == "tests":
        return f"{layer}/ may not include tests/"
    if included.startswith(".."):
        return "write includes from the project root"
    if target in LAYERS:
        return None
    for name, pattern, allowed in CONFINED:
        if pattern.match(included) and layer not in allowed:
            return f"{name} belongs to {' and '.join(sorted(allowed))}/ alone"
    return None


def self_test():
    """The rules themselves: each line must be refused or accepted as written here."""
    refused = [("engine", "profiler/trace.h"), ("profiler", "views/theme.h"), ("storage", "app/options.h"),
               ("engine", "imgui.h"), ("storage", "implot.h"), ("engine", "sqlite3.h"), ("views", "sqlite3.h"),
               ("engine", "cupti.h"), ("views", "cuda_runtime_api.h"), ("engine", "../app/x.h"),
               ("storage", "backends/imgui_impl_glfw.h"), ("engine", "GLFW/glfw3.h"), ("engine", "tests/helpers.h")]
    accepted = [("app", "views/theme.h"), ("views", "imgui.h"), ("views", "implot.h"), ("storage", "sqlite3.h"),
                ("profiler", "cupti.h"), ("engine", "engine/error.h"), ("engine", "vector"), ("engine", "hwy/highway.h"),
                ("app", "engine/error.h"), ("engine", "cuda_runtime_api.h"), ("app", "profiler/cupti_source.h")]
    wrong = [f"self-test: {l} including {i} was accepted" for l, i in refused if check_include(l, i) is None]
    wrong += [f"self-test: {l} including {i} was refused" for l, i in accepted if check_include(l, i) is not None]
    return wrong


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    problems = self_test()
    cupti_files = []
    read = 0
    for layer in LAYERS:
        for path in sources(root, layer):
            read += 1
            name = path.relative_to(root)
            for number, included in includes(path):
                problem = check_include(layer, included)
                if problem:
                    problems.append(f"{name}:{number}: #include \"{included}\": {problem}")
                if re.match(r"cupti", included):
                    cupti_files.append(str(name))
    for folder in LAYERS + ["tests"]:
        for path in sources(root, folder):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > MAX_LINES:
                problems.append(f"{path.relative_to(root)}: {lines} lines; split it (at most {MAX_LINES})")
    if len(set(cupti_files)) > CUPTI_FILES_AT_MOST:
        problems.append(f"CUPTI is included from {', '.join(sorted(set(cupti_files)))}; one file keeps it")
    if read == 0:
        problems.append(f"{root}: no sources found")
    print("\n".join(problems) if problems else f"{read} files keep to the layers")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
