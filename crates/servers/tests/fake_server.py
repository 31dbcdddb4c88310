"""A server that behaves in one of many ways: `fake_server.py PORT BEHAVIOUR [FILE]`."""
import http.server
import json
import os
import signal
import subprocess
import sys
import time

port, behaviour = int(sys.argv[1]), sys.argv[2]
file = sys.argv[3] if len(sys.argv) > 3 else None
print(f"starting on {port}, {behaviour}", flush=True)

if behaviour == "exits":
    print("ValueError: no such model", file=sys.stderr)
    sys.exit(3)
if behaviour == "no-memory":
    print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", file=sys.stderr)
    for i in range(30):
        print(f"  frame {i}", file=sys.stderr)
    sys.exit(1)
if behaviour == "port-taken-once" and not os.path.exists(file):
    open(file, "w").write(str(port))
    print(f"ERROR: [Errno 98] error while attempting to bind on address ('127.0.0.1', {port}): address already in use")
    sys.exit(1)
if behaviour in ("stubborn", "never-ends"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if behaviour == "children":
    sleep = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    # One that stays in the group; one that leaves it, and whose parent is gone.
    child = subprocess.Popen([sys.executable, "-c", sleep], stdout=subprocess.PIPE)
    child.stdout.readline()
    middle = (
        "import subprocess, sys; "
        "p = subprocess.Popen([sys.executable, '-c', sys.argv[1]], start_new_session=True, stdout=subprocess.PIPE); "
        "p.stdout.readline(); print(p.pid)"
    )
    away = subprocess.run([sys.executable, "-c", middle, sleep], stdout=subprocess.PIPE, text=True, check=True).stdout
    open(file, "w").write(f"{child.pid} {away}")
if behaviour == "key":
    print(f"args: --api-key {os.environ['SERVER_API_KEY']}", flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def allowed(self):
        if behaviour == "key" and self.headers["Authorization"] != f"Bearer {os.environ['SERVER_API_KEY']}":
            self.answer(401, {"error": "no key"})
            return False
        return True

    def do_GET(self):
        if self.path == "/health":
            self.answer(503 if behaviour == "never" else 200, {})
        elif self.path == "/version":
            self.answer(200, {"version": "1.2.3"})
        elif self.path == "/metrics":
            body = b"vllm:num_requests_running 2.0\nvllm:kv_cache_usage_perc 0.5\n"
            body += b"vllm:request_queue_time_seconds_sum 1.5\nvllm:request_queue_time_seconds_count 6.0\n"
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        elif self.path == "/v1/models":
            if self.allowed():
                self.answer(200, {"data": [{"id": "small"}, {"id": "adapter-1"}]})
        else:
            self.answer(404, {})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if behaviour == "slow-first":
            time.sleep(2)
        if not self.allowed():
            return
        if behaviour == "dies-at-work":
            print("RuntimeError: engine died", flush=True)
            os._exit(7)
        if behaviour == "no-text":
            self.answer(400, {"error": "the model has no chat template"})
        elif self.path == "/v1/completions":
            self.answer(200, {"choices": [{"text": " four"[: request["max_tokens"]]}]})
        else:
            self.answer(404, {})


server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
print("serving", flush=True)
if behaviour == "dies-later":
    import threading

    threading.Timer(0.5, lambda: os._exit(9)).start()
if behaviour == "no-memory-later":
    import threading

    def without_memory():
        print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", flush=True)
        for i in range(30):
            print(f"  frame {i}", flush=True)
        os._exit(1)

    threading.Timer(0.5, without_memory).start()
server.serve_forever()
