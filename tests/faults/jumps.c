/* Preloaded, it makes the wall clock of a process jump a day ahead and back, four times a second. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

static int (*real)(clockid_t, struct timespec *);

static long jump(void) {
  struct timespec now;
  real(CLOCK_MONOTONIC, &now);
  return (now.tv_nsec / 250000000) % 2 ? 86400 : -86400;
}

int clock_gettime(clockid_t id, struct timespec *found) {
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(id, found);
  if (!failed && id == CLOCK_REALTIME) found->tv_sec += jump();
  return failed;
}

int gettimeofday(struct timeval *found, void *zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  found->tv_sec = now.tv_sec;
  found->tv_usec = now.tv_nsec / 1000;
  return 0;
}
