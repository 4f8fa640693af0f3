"""Prints the resources of Terraform files as JSON: {type: {name: body}}. What python-hcl2 cannot parse is an error."""
import json
import sys

import hcl2


def plain(value):
    """Without the quotes and marks that python-hcl2 keeps for writing the text back."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items() if key not in ("__is_block__", "__comments__")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


found = {"resource": {}, "variable": {}}
for path in sys.argv[1:]:
    with open(path) as file:
        parsed = plain(hcl2.load(file))
    for block in parsed.get("resource", []):
        for kind, named in block.items():
            found["resource"].setdefault(kind, {}).update(named)
    for block in parsed.get("variable", []):
        found["variable"].update(block)
json.dump(found, sys.stdout)
