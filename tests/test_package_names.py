"""The package's names: each is used beyond the chapter that derives it, and spelled as code is spelled."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
from uses import PACKAGE, accesses, of_module  # noqa: E402  (a script's folder is not a package)


def trees(*folders: str) -> dict[Path, ast.AST]:
    """Every Python file of some folders, parsed."""
    return {
        path: ast.parse(path.read_text()) for name in folders for path in sorted((ROOT / name).rglob("*.py"))
    }


# --------------------------------------------------------------------------------------------------- nothing unused

# Public names that one chapter derives and nothing else uses yet.
WAITING = {
    "chapter 14 trains on the reader's own videos": """
        VideoClips ucf101 hmdb51 kinetics something_something freeze probe read_audio
        sample_segments sample_random_clip cache_features""",
    "chapters 15 and 16 score strangers": "reliability auroc",
    "chapters 16 to 19 rank what they find": "recall_at_k precision_at_k average_precision neighbor_recall",
    "chapter 17 finds and follows objects": "scenes SoraDetector detection_loss mean_average_precision tracking_scores",
    "chapters 17 to 19 read long videos": "LongVideos script load Segmenter edit_score f1_at spotting_ap",
    "chapter 18 restores pictures": "ssim",
    "chapter 19 hears and reads": "audio_delay mel_filters log_mel Vocabulary split AudioVisual",
    "chapter 23 gives noise an account, and data a card": "gaussian_delta gaussian_epsilon data_card",
    "chapter 20 runs on streams": "conv_step encoder_step banded attended file_frames pipe_frames",
    "chapter 13 compares the designs": "SoraContrastive SoraAutoencoder",
    "chapter 21 asks what a model looks at": """
        integrated_gradients grad_cam occlusion pointing deletion still_box""",
    "one chapter alone so far: use it again or take it out": """
        with_reversals ruler_scores ruler_table joint_attention block_macs CausalConv3d perplexity usage
        lstm_cell GRUCell info_nce vicreg alignment uniformity effective_rank contrast_step device""",
}


def chapters(node: ast.AST, tree: ast.AST) -> set[str]:
    """Numbers of the chapters that a name's docstring, or its module's, says it comes from."""
    for doc in (ast.get_docstring(node) or "", ast.get_docstring(tree) or ""):
        if said := re.findall(r"[Cc]hapters? (\d\d(?:(?:, | and )\d\d)*)", doc):
            return set(re.findall(r"\d\d", " ".join(said)))
    return set()


def unused(modules: dict[Path, ast.AST], users: dict[Path, ast.AST]) -> list[str]:
    """Public functions and classes that no second chapter, no script and nothing else of the package uses."""
    taken = {path: accesses(path, tree) for path, tree in users.items() if path.name != "__init__.py"}
    found = []
    for path, tree in modules.items():
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            own = chapters(node, tree)
            beside = [other for other in tree.body if other is not node]
            inside = any(
                isinstance(n, ast.Name) and n.id == node.name for other in beside for n in ast.walk(other)
            )
            outside = any(
                name == node.name and of_module(path, module)
                for user, names in taken.items()
                if user != path and not (user.parent.name == "notebooks" and user.stem[:2] in own)
                for module, name in names
            )
            if not inside and not outside:
                found.append(node.name)
    return found


def test_every_public_name_is_used_beyond_the_chapter_that_derives_it():
    waiting = {name for names in WAITING.values() for name in names.split()}
    assert set(unused(trees("sora_nb"), trees("notebooks", "scripts", "sora_nb"))) <= waiting


def test_a_name_that_only_its_own_chapter_uses_is_found():
    module = PACKAGE / "layers" / "gate.py"
    tree = ast.parse('"""Gates. Derived in chapter 08."""\ndef gate(): pass\ndef _f(): pass\n')

    def found(file: str, text: str) -> list[str]:
        return unused({module: tree}, {ROOT / file: ast.parse(text), module: tree})

    assert found("notebooks/08_gru.py", "from sora_nb.layers.gate import gate\ngate()") == ["gate"]
    assert found("notebooks/09_x.py", "from sora_nb.layers import attention\nattention.gate()") == ["gate"]
    assert found("sora_nb/layers/__init__.py", "from sora_nb.layers.gate import gate") == ["gate"]
    assert found("notebooks/09_x.py", "from sora_nb import layers\nlayers.gate()") == []
    assert found("notebooks/09_x.py", "import sora_nb.layers.gate as g\ng.gate()") == []
    assert found("scripts/x.py", "import sora_nb.layers.gate\nsora_nb.layers.gate.gate()") == []
    assert found("sora_nb/layers/y.py", "from .gate import gate") == []


# --------------------------------------------------------------------------------------------------------- spelling

# American, as in every library that this code stands beside; prose is British. Verbs in -ise are listed by their stems,
# for noise, precise, otherwise and their like are well spelled.
VERBS = """character custom digit emphas equal factor final general initial local maxim memor minim normal optim organ
parallel penal polar quant random real recogn regular serial stabil standard summar synchron token util vector visual"""
BRITISH = re.compile(
    r"colour|centre|grey|behaviour|neighbour|favour|fibre|licence|catalogue|analys(?:e|ing)|(?:label|model|travel|cancel)l(?:ed|ing)"
    rf"|(?:{'|'.join(VERBS.split())})is(?:e|ed|er|es|ing|ations?)(?![a-z])",
    re.IGNORECASE,
)
# To be respelled.
RESPELL = set(
    """factorised factorised_width initialise initialised relabelled test_initialise_starts_counting_afresh
    test_factorised_convolution_matches_the_parameters_of_the_full_one
    test_a_frame_network_says_how_many_colours_it_takes""".split()
)


def names(tree: ast.AST) -> set[str]:
    """Every identifier of a file: variables, attributes, arguments, keywords, functions, classes, imports."""
    fields = ("id", "attr", "arg", "name", "asname", "module")
    found = (getattr(node, field, None) for node in ast.walk(tree) for field in fields)
    return {name for name in found if isinstance(name, str)}


def test_identifiers_are_spelled_in_american():
    files = trees("sora_nb", "scripts", "tests", "book/_ext")
    found = {(str(path.relative_to(ROOT)), name) for path, tree in files.items() for name in names(tree)}
    assert {(path, name) for path, name in found if BRITISH.search(name) and name not in RESPELL} == set()


def test_a_british_identifier_is_found_and_prose_is_left_alone():
    bad = "import grey\ndef centre(x, colour=1): y.behaviour = f(normalised=1)\nLICENCES = 1\nclass Initialiser: pass\n"
    assert {name.lower() for name in names(ast.parse(bad)) if BRITISH.search(name)} == {
        "grey", "centre", "colour", "behaviour", "normalised", "licences", "initialiser"}  # fmt: skip
    good = '"""The colour of the centre."""\nnoise = precise(raised, exercise, promised, realism)  # grey\n'
    assert not any(map(BRITISH.search, names(ast.parse(good))))
