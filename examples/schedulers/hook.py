#!/usr/bin/env python3
"""A scheduler hook that packs: it fills the fullest container instance first, so that others stay empty.

    python3 hook.py --listen 127.0.0.1:8000
    longshore scheduler set default --url http://127.0.0.1:8000/

Longshore posts the tasks that wait, each with the instances that could take it; the answer says where they go. Whatever it
says is checked again: a wish that does not fit comes back in `refused` of the next question.
"""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def pack(question):
    """A placement for every task that fits somewhere."""
    free, placements = {}, []
    for task in sorted(question["tasks"], key=lambda task: -task["memory"]):
        for one in task["candidates"]:
            left = [one["remainingCpu"], one["remainingMemory"]]
            free.setdefault(one["containerInstanceArn"], left)
        arns = [one["containerInstanceArn"] for one in task["candidates"]]
        fits = [a for a in arns if free[a][0] >= task["cpu"] and free[a][1] >= task["memory"]]
        if fits:
            fullest = min(fits, key=lambda arn: (free[arn][1], arn))
            free[fullest][0] -= task["cpu"]
            free[fullest][1] -= task["memory"]
            placements.append({"taskArn": task["taskArn"], "containerInstanceArn": fullest})
    return placements


class Hook(BaseHTTPRequestHandler):
    """Answers each question at once, from what it says alone: there is nothing to remember."""

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for refused in question["refused"]:
            print("refused:", refused["taskArn"], refused["reason"], refused["detail"], flush=True)
        answer = json.dumps({"placements": pack(question)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1:8000")
    host, _, port = parser.parse_args().listen.rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Hook)
    print("listens on port", server.server_port, flush=True)
    server.serve_forever()
