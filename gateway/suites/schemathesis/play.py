"""Plays schemathesis against a running stack that has examples/ in it: play.py URL.

Three groups of cases, one case an operation; each result is one line of JSON on standard output.

any      all operations but streams, with any parameters
known    the same without DELETE, with the names of what exists, so that requests get past 404
streams  what schemathesis cannot play, since a stream has no end: the first reply in each form fits its schema
"""

import json
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request
import xml.etree.ElementTree

import jsonschema_rs

HERE = pathlib.Path(__file__).parent
# Of one request, in seconds.
PATIENCE = 20
STREAM = ":watch"


def tell(case, error=None):
    print(json.dumps({"case": case} | ({"error": error} if error else {})), flush=True)


def get(url, **headers):
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return urllib.request.urlopen(request, timeout=PATIENCE)


def run(group, url, config, *arguments):
    """Runs schemathesis, and tells how each operation went."""
    report = pathlib.Path(f"{group}.xml")
    report.unlink(missing_ok=True)
    command = [pathlib.Path(sys.executable).with_name("st"), "--config-file", config, "run", f"{url}/openapi.json"]
    command += ["--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--request-timeout", str(PATIENCE)]
    command += ["--suppress-health-check", "all", "--warnings", "off", "--output-sanitize", "false", "--no-color"]
    command += ["--report", "junit", "--report-junit-path", report, "--exclude-path-regex", f"{STREAM}$"]
    with open(f"{group}.log", "w", encoding="utf-8") as log:
        # Its exit code says no more than the report.
        subprocess.run(command + list(arguments), stdout=log, stderr=subprocess.STDOUT, check=False)
    if not report.exists():
        sys.exit(f"schemathesis wrote no report: {pathlib.Path(log.name).read_text(encoding='utf-8')}")
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        wrong = [item.text or item.get("message") for kind in ("failure", "error") for item in case.findall(kind)]
        tell(f"{group}/{case.get('name')}", "\n".join(wrong))


def known(url):
    """The committed configuration, with names of what exists as parameters."""
    pool = f"{url}/v1/projects/shop/clusters/prod/machines"
    with get(pool) as reply:
        machine = json.load(reply)["machines"][0]["name"].rsplit("/", 1)[1]
    names = {
        "project": "shop", "cluster": "prod", "machinePool": "workers", "machine": machine, "image": "ubuntu",
        "machineTemplate": "general", "placementPolicy": "spread", "instanceType": "standard-4",
        "preference": "sockets-advantage", "infraNode": "infra-1",
    }  # fmt: skip
    lines = ["[parameters]"] + [f'"path.{name}" = "{value}"' for name, value in names.items()]
    base = (HERE / "schemathesis.toml").read_text(encoding="utf-8")
    # Top-level keys first: a table of TOML goes on to the next one.
    head, _, tables = base.partition("[generation]")
    config = pathlib.Path("known.toml")
    config.write_text(head + "\n".join(lines) + "\n\n[generation]" + tables, encoding="utf-8")
    return config


def streams(url, document):
    for path, item in document["paths"].items():
        if path.endswith(STREAM):
            wrong = [text for kind in ("x-ndjson", "json", "event-stream") if (text := stream(url, document, path, item, kind))]
            tell(f"streams/GET {path}", "\n".join(wrong))


def stream(url, document, path, item, kind):
    """What is wrong with the first reply of a stream in one form."""
    kind = "text/event-stream" if kind == "event-stream" else f"application/{kind}"
    path = path.replace("{project}", "shop").replace("{cluster}", "prod")
    documented = item["get"]["responses"]["200"]["content"][kind]
    schema = documented.get("x-item-schema") or documented["schema"]["items"]
    with get(f"{url}{path}", accept=kind, x_server_timeout="2") as reply:
        if reply.headers["content-type"] != kind:
            return f"{kind} was asked for, {reply.headers['content-type']} came"
        while line := reply.readline().decode():
            text = line.strip().removeprefix("data:").lstrip("[,").strip()
            if text.startswith("{"):
                break
        else:
            return f"{kind}: no reply"
    value = json.loads(text.rstrip("],"))
    validator = jsonschema_rs.Draft202012Validator(schema | {"components": document["components"]})
    wrong = [f"{kind}: {error.message}" for error in validator.iter_errors(value)]
    return "; ".join(wrong)


def main():
    url = sys.argv[1]
    with get(f"{url}/openapi.json") as reply:
        document = json.load(reply)
    streams(url, document)
    run("any", url, HERE / "schemathesis.toml")
    run("known", url, known(url), "--exclude-method", "DELETE")


main()
