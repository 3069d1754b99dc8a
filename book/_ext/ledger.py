"""The claims ledger: what book/claims.yml lists, joined with the verdicts that executed chapters recorded.

Verdicts and numbers are not typed here: they are outputs of ``sora_nb.ledger.claim`` in the staged notebooks. An unknown
claim, an unknown verdict, or two chapters that disagree stop the build.
"""

import json
from collections import Counter, defaultdict
from pathlib import Path

import yaml
from chapters import find, link
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective, SphinxRole

MIME = "application/vnd.sora-nb.claim+json"
WORDS = {
    "holds": "holds",
    "partly": "holds in part",
    "corrected": "corrected",
    "refuted": "refuted",
    "untestable": "cannot be tested",
    "pending": "not yet tested",
}


def load_claims(path: Path) -> dict[str, dict]:
    """Return the claims by id, in order.

    Raises:
        ExtensionError: an id comes twice, a field is missing, or a claim without a chapter gives no reason.
    """
    claims = {}
    for claim in yaml.safe_load(path.read_text(encoding="utf-8")):
        missing = {"id", "claim", "truth", "chapter"} - claim.keys()
        if missing or claim["id"] in claims:
            raise ExtensionError(
                f"claims.yml: {claim} comes twice or lacks {', '.join(sorted(missing)) or 'nothing'}."
            )
        if claim["chapter"] is None and not claim.get("reason"):
            raise ExtensionError(f"claims.yml: {claim['id']} names no chapter, so it needs a reason.")
        claims[claim["id"]] = claim
    return claims


def recorded(path: Path) -> list[dict]:
    """Return the claim records among a notebook's outputs."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return [data[MIME] for data in outputs if MIME in data]


def collect(srcdir, claims: dict[str, dict]) -> dict[str, list[dict]]:
    """Return claim id to its records, each with the number of its chapter.

    Raises:
        ExtensionError: a record names an unknown claim or verdict, or records of one claim disagree.
    """
    found = defaultdict(list)
    for number, docname in find(srcdir).items():
        for record in recorded(Path(srcdir, f"{docname}.ipynb")):
            if record["id"] not in claims:
                raise ExtensionError(
                    f"{docname} records claim {record['id']!r}, which book/claims.yml does not list."
                )
            if record["verdict"] not in WORDS or record["verdict"] == "pending":
                raise ExtensionError(
                    f"{docname} gives claim {record['id']} the unknown verdict {record['verdict']!r}."
                )
            found[record["id"]].append({**record, "chapter": number})
    for name, records in found.items():
        if len({record["verdict"] for record in records}) > 1:
            said = "; ".join(f"chapter {r['chapter']} says {r['verdict']}" for r in records)
            raise ExtensionError(f"The verdicts on claim {name} contradict each other: {said}.")
    return dict(found)


def verdict(claim: dict, records: list[dict]) -> str:
    """Return the verdict on one claim, "pending" while its chapter has recorded none."""
    if records:
        return records[0]["verdict"]
    return "untestable" if claim["chapter"] is None else "pending"


class ClaimsTable(SphinxDirective):
    """``claims-table``: the claims of one article, or of all."""

    option_spec = {"article": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        app = self.env.app
        wanted = self.options.get("article", "")
        claims = [claim for claim in app.sora_claims.values() if claim["id"].startswith(wanted)]
        if not claims:
            raise self.error(f"claims.yml holds no claim of article {wanted!r}.")
        self.env.note_dependency(str(Path(self.env.srcdir, "claims.yml")))
        box = nodes.container(classes=["claims"])
        box += [self.row(claim, app.sora_verdicts.get(claim["id"], [])) for claim in claims]
        return [box]

    def row(self, claim: dict, records: list[dict]) -> nodes.Node:
        """Lay one claim out: name, what is said and what is true, verdict and evidence."""
        word = verdict(claim, records)
        row = nodes.container(classes=["claim-row"], ids=[f"claim-{claim['id']}"])
        row += nodes.container("", nodes.paragraph("", claim["id"]), classes=["claim-id"])
        said = nodes.container(classes=["claim-said"])
        said += [*self.prose(claim["claim"]), *self.prose(f"**In truth:** {claim['truth']}")]
        judged = nodes.container(classes=["claim-judged"])
        judged += nodes.paragraph(
            "", "", nodes.inline("", WORDS[word], classes=["verdict", f"verdict-{word}"])
        )
        judged += [self.evidence(record) for record in records]
        if word == "pending":
            judged += nodes.paragraph("", "", nodes.Text("in "), self.to_chapter(f"{claim['chapter']:02d}"))
        elif not records:
            judged += self.prose(claim["reason"])
        row += [said, judged]
        return row

    def prose(self, text: str) -> list[nodes.Node]:
        """Parse a line of MyST, so that claims.yml can hold maths and code."""
        box = nodes.container()
        self.state.nested_parse(StringList([text], "claims.yml"), 0, box)
        return box.children

    def evidence(self, record: dict) -> nodes.Node:
        where = self.to_chapter(record["chapter"], f"claim-{record['id']}")
        return nodes.paragraph("", "", nodes.Text(record["evidence"] + " ("), where, nodes.Text(")"))

    def to_chapter(self, number: str, anchor: str = "") -> nodes.Node:
        return link(self.env.app, self.env.docname, number, f"chapter {number}", anchor)


class ClaimsSummary(SphinxDirective):
    """``claims-summary``: how many claims of each article have which verdict."""

    def run(self) -> list[nodes.Node]:
        app, counts = self.env.app, defaultdict(Counter)
        for name, claim in app.sora_claims.items():
            counts[name[0]][verdict(claim, app.sora_verdicts.get(name, []))] += 1
        head = "".join(f'<th scope="col">{word}</th>' for word in WORDS.values())
        rows = "".join(
            f'<tr><th scope="row">{article}</th>'
            + "".join(f"<td>{count[word] or '·'}</td>" for word in WORDS)
            + "</tr>"
            for article, count in sorted(counts.items())
        )
        head = f'<thead><tr><th scope="col">article</th>{head}</tr></thead>'
        table = f'<table class="table claims-summary">{head}<tbody>{rows}</tbody></table>'
        return [nodes.raw("", f'<div class="table-wrapper">{table}</div>', format="html")]


class Claim(SphinxRole):
    """``{claim}`A3```: a link to that claim's row on the claims page."""

    def run(self):
        if self.text not in self.env.app.sora_claims:
            message = self.inliner.reporter.error(
                f"claims.yml holds no claim {self.text!r}", line=self.lineno
            )
            return [nodes.problematic("", self.rawtext)], [message]
        uri = f"{self.env.app.builder.get_relative_uri(self.env.docname, 'claims')}#claim-{self.text}"
        return [nodes.reference("", f"claim {self.text}", refuri=uri, internal=True)], []


def read_ledger(app) -> None:
    app.sora_claims = load_claims(Path(app.srcdir, "claims.yml"))
    app.sora_verdicts = collect(app.srcdir, app.sora_claims)


def outdated(app, env, added, changed, removed) -> list[str]:
    """Read the claims page again whenever a chapter changed: its verdicts stand there."""
    chapters = {name for name in added | changed | removed if name.startswith("notebooks/")}
    return ["claims"] if chapters and "claims" in env.all_docs else []


def setup(app) -> dict:
    app.connect("builder-inited", read_ledger)
    app.connect("env-get-outdated", outdated)
    app.add_directive("claims-table", ClaimsTable)
    app.add_directive("claims-summary", ClaimsSummary)
    app.add_role("claim", Claim())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
