/* A tenant in C, without any library: the whole protocol of docs/tenant-protocol.md.
 *
 *   cc -O2 -o example example.c                              each iteration spins the CPU for MS milliseconds
 *   nvcc -O2 -x cu -DUSE_CUDA -o example example.c           … a kernel spins the GPU for as long
 *   ./example [MS]                                           alone: ten iterations, printed
 *
 * In an experiment: command = ["./example", "2.5"], protocol = "lines".
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef long long ns;
static FILE *in, *out;      /* the protocol's descriptors */
static char line[1 << 22];  /* one command; an arm with many arrivals is long */
static ns work_ns = 2000000; /* length of an iteration */

static ns now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void sleep_until(ns when) { /* sleeps, then spins the last 0.2 ms: sleeping alone wakes up late */
  ns early = when - 200000;
  struct timespec t = {early / 1000000000, early % 1000000000};
  if (now() < early) while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {}
  while (now() < when) {}
}

#ifdef USE_CUDA
__global__ void spin(ns length) {
  ns begin, t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
  do asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t)); while (t - begin < length);
}
#endif

static void say(const char *text) { fprintf(out, "%s\n", text); fflush(out); }

static void iteration(void) { /* your work; it has ended when this returns */
#ifdef USE_CUDA
  spin<<<1, 32>>>(work_ns);
  cudaError_t e = cudaDeviceSynchronize();
  if (e != cudaSuccess) {
    if (out) { fprintf(out, "error %s %s\n", e == cudaErrorMemoryAllocation ? "memory" : "failed", cudaGetErrorString(e)); fflush(out); }
    exit(1);
  }
#else
  ns end = now() + work_ns;
  while (now() < end) {}
#endif
}

static int command(void) { /* next command without its line end; end of file is "exit" */
  size_t n;
  if (!fgets(line, sizeof line, in)) strcpy(line, "exit");
  n = strcspn(line, "\n");
  line[n] = 0;
  return strcmp(line, "exit") != 0;
}

static int waiting(void) { /* is there a command? (`in` is unbuffered, so poll sees all there is) */
  struct pollfd p = {fileno(in), POLLIN, 0};
  return poll(&p, 1, 0) > 0;
}

static ns option(const char *name, ns otherwise) { /* the number after " name=" */
  const char *p = strstr(line, name);
  return p ? atoll(p + strlen(name)) : otherwise;
}

static int phase(void) { /* `line` holds an arm; 0 when the program should end */
  ns warmup = option(" warmup=", 0), wanted = option(" iterations=", 1), gap = option(" gap=", 0);
  int until_stop = strstr(line, " until=stop") != NULL;
  char *list = strstr(line, " arrivals="), *offsets = list ? strdup(list + 10) : NULL, *next = offsets;
  ns i, at, heard;
  for (i = 0; i < warmup; i++) iteration();
  say("armed");
  if (!command()) return 0;
  if (strncmp(line, "go ", 3) == 0) {
    heard = at = atoll(line + 3);
    sleep_until(at);
    for (i = 0; until_stop || i < wanted; i++) {
      ns arrival = -1, start;
      if (waiting()) {
        if (!command()) return 0;
        break; /* the only other command within a phase is stop */
      }
      if (next && i >= wanted) { poll(NULL, 0, 1); i--; continue; } /* all arrivals served: wait for stop */
      if (next) { arrival = at + strtoll(next, &next, 10); next += *next == ','; sleep_until(arrival); }
      start = now();
      iteration();
      fprintf(out, "it %lld %lld", start, now()); /* into memory: stdio writes when its buffer is full */
      if (arrival >= 0) fprintf(out, " arrival=%lld", arrival);
      fputc('\n', out);
      if (until_stop && i + 1 == wanted) say("enough");
      if (now() - heard > 2000000000LL) { fflush(out); heard = now(); }
      if (gap && i + 1 < wanted) sleep_until(now() + gap);
    }
  }
  free(offsets);
  say("done");
  return 1;
}

int main(int argc, char **argv) {
  const char *r = getenv("COTENANT_IN"), *w = getenv("COTENANT_OUT");
  if (argc > 1) work_ns = (ns)(atof(argv[1]) * 1e6);
  if (!r || !w) {
    for (int i = 0; i < 10; i++) { ns t = now(); iteration(); printf("%.3f ms\n", (now() - t) / 1e6); }
    return 0;
  }
  in = fdopen(atoi(r), "r");
  out = fdopen(atoi(w), "w");
  if (!in || !out) { perror("COTENANT_IN, COTENANT_OUT"); return 1; }
  setvbuf(in, NULL, _IONBF, 0);
  say("hello 1");
  iteration(); /* whatever is slow the first time */
  say("ready");
  while (command())
    if (strncmp(line, "arm ", 4) == 0 && !phase()) return 0; /* a late stop is passed over */
  return 0;
}
