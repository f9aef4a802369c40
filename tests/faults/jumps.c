/* Preloaded, it makes the wall clock of a process jump a day ahead and back, four times a second.

   The kernel's own clock stays as it is. A wait until a moment of the process's clock is therefore
   given to the kernel as the same moment of the kernel's, else it would last a day. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#define DAY 86400

static int (*real)(clockid_t, struct timespec *);

static void wall(struct timespec *found) {
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  real(CLOCK_REALTIME, found);
}

static long jump(void) {
  struct timespec now;
  real(CLOCK_MONOTONIC, &now);
  return (now.tv_nsec / 250000000) % 2 ? DAY : -DAY;
}

/* A moment that is about a day off was told by this clock; one of another clock is left alone. */
static struct timespec kernels(const struct timespec *moment) {
  struct timespec now, found = *moment;
  wall(&now);
  long ahead = moment->tv_sec - now.tv_sec;
  if (ahead > DAY / 2 && ahead < 3 * DAY / 2) found.tv_sec -= DAY;
  if (ahead < -DAY / 2 && ahead > -3 * DAY / 2) found.tv_sec += DAY;
  return found;
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

time_t time(time_t *found) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (found) *found = now.tv_sec;
  return now.tv_sec;
}

/* The first version of this function, which a plain look-up may find, has another structure. */
static void *waiting(const char *name) {
  void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
  return found ? found : dlsym(RTLD_NEXT, name);
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *to) {
  static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  if (!wait) wait = waiting("pthread_cond_timedwait");
  struct timespec until = kernels(to);
  return wait(cond, mutex, &until);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *to) {
  static int (*wait)(sem_t *, const struct timespec *);
  if (!wait) wait = dlsym(RTLD_NEXT, "sem_timedwait");
  struct timespec until = kernels(to);
  return wait(semaphore, &until);
}

long syscall(long number, ...) {
  static long (*call)(long, ...);
  if (!call) call = dlsym(RTLD_NEXT, "syscall");
  long given[6];
  va_list rest;
  va_start(rest, number);
  for (int i = 0; i < 6; i++) given[i] = va_arg(rest, long);
  va_end(rest);
  struct timespec until;
  if (number == SYS_futex && given[1] & FUTEX_CLOCK_REALTIME && given[3]) {
    until = kernels((const struct timespec *)given[3]);
    given[3] = (long)&until;
  }
  return call(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
