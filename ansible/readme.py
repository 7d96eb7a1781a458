#!/usr/bin/python3
"""Writes the tables of variables in the roles' READMEs from their argument_specs; with --check only says whether they are right."""

import pathlib
import re
import sys

import yaml

MARKS = re.compile(r"(<!-- variables of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rows(options, prefix=""):
    """The lines of a table."""
    for name, option in options.items():
        kind = option["type"] + (" of " + option["elements"] if "elements" in option else "")
        default = "required" if option.get("required") else shown(option.get("default", ""))
        text = " ".join(option["description"].split())
        if "choices" in option:
            text += " One of " + ", ".join("`%s`" % choice for choice in option["choices"]) + "."
        yield "| `%s%s` | %s | %s | %s |" % (prefix, name, kind, default, text)
        yield from rows(option.get("options", {}), prefix + name + ".")


def shown(value):
    """A default, as an inventory has it."""
    if value in ("", [], {}):
        return ""
    return "`%s`" % (str(value).lower() if isinstance(value, bool) else value)


def main():
    wrong = []
    for readme in sorted(pathlib.Path(__file__).parent.glob("roles/*/README.md")):
        specs = yaml.safe_load((readme.parent / "meta/argument_specs.yml").read_text())["argument_specs"]
        before = readme.read_text()

        def table(found, specs=specs):
            head = "| variable | type | default | meaning |\n| --- | --- | --- | --- |\n"
            return found[1] + head + "".join(row + "\n" for row in rows(specs[found[2]]["options"])) + found[3]

        after = MARKS.sub(table, before)
        if {found[2] for found in MARKS.finditer(before)} != set(specs):
            wrong.append("%s has no table for one of %s" % (readme, ", ".join(specs)))
        if after != before:
            if "--check" in sys.argv:
                wrong.append("%s isn't what argument_specs say: run ansible/readme.py" % readme)
            else:
                readme.write_text(after)
    sys.exit("\n".join(wrong) or 0)


main()
