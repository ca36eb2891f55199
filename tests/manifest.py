#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What is in a manifest of Kubernetes.

manifest.py check FILE...          whether the API's model (Debian's python3-kubernetes)
                                   takes each object: all fields known, of the right
                                   type, none missing
manifest.py get FILE KIND PATH     the words at PATH, such as spec/replicas or
                                   spec/initContainers/proxy/command (of a list by
                                   the name of the element), each ended by a zero byte
"""

import re
import sys

import yaml

# What the model of Debian 12 does not know yet.
NEWER = {"V1Container": {"restart_policy": "restartPolicy"}}


def walk(model, kind, value, path, wrong):
    """VALUE, at PATH, is to be of the type KIND, as the model names types."""
    if value is None:
        wrong.append(f"{path}: is empty")
        return
    of = re.fullmatch(r"(list|dict)[\[(](?:str, ?)?(.*)[\])]", kind)
    if of:
        pairs = (enumerate(value) if isinstance(value, list) and of[1] == "list" else
                 value.items() if isinstance(value, dict) and of[1] == "dict" else None)
        if pairs is None:
            wrong.append(f"{path}: is no {of[1]}")
            return
        for key, element in pairs:
            walk(model, of[2], element, f"{path}/{key}", wrong)
        return
    plain = {"str": str, "int": int, "bool": bool, "object": object}
    if kind in plain:
        if not isinstance(value, plain[kind]) or (kind == "int" and value is True):
            wrong.append(f"{path}: is no {kind}")
        return
    walk_object(model, getattr(model, kind), value, path, wrong)


def walk_object(model, cls, value, path, wrong):
    if not isinstance(value, dict):
        wrong.append(f"{path}: is no object")
        return
    names = {json: python for python, json in cls.attribute_map.items()}
    newer = {json for python, json in NEWER.get(cls.__name__, {}).items()
             if python not in cls.attribute_map}
    arguments = {}
    for key, element in value.items():
        if key in newer:
            print(f"this model knows no {key}: {path}/{key} was not looked at")
        elif key not in names:
            wrong.append(f"{path}/{key}: there is no such field")
        else:
            walk(model, cls.openapi_types[names[key]], element, f"{path}/{key}", wrong)
            arguments[names[key]] = element
    try:
        cls(**arguments)  # complains of what is missing
    except ValueError as e:
        wrong.append(f"{path}: {e}")


def objects(file):
    with open(file) as f:
        return [o for o in yaml.safe_load_all(f) if o is not None]


def check(files):
    import kubernetes.client as model

    wrong = []
    for file in files:
        for o in objects(file):
            version = o["apiVersion"].split("/")[-1]
            cls = version[0].upper() + version[1:] + o["kind"]
            if not hasattr(model, cls):
                wrong.append(f"{file}: {o['apiVersion']} has no {o['kind']}")
                continue
            walk_object(model, getattr(model, cls), o, f"{file}: {o['kind']}", wrong)
    print("\n".join(wrong))
    return 1 if wrong else 0


def get(file, kind, path):
    here = next(o for o in objects(file) if o["kind"] == kind)
    for step in path.split("/"):
        here = (next(e for e in here if e["name"] == step) if isinstance(here, list)
                else here[step])
    for word in here if isinstance(here, list) else [here]:
        # Of what is no word, as a volume's mount is, name and place.
        if isinstance(word, dict):
            word = f"{word['name']} {word['mountPath']}"
        sys.stdout.write(f"{word}\0")
    return 0


if sys.argv[1] == "check":
    sys.exit(check(sys.argv[2:]))
sys.exit(get(*sys.argv[2:]))
