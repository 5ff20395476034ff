#include "run.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kTimeLimit = 20 * 1000 };  // ms

static int destination = -1;

void report_to(int descriptor) { destination = descriptor; }

_Noreturn void report(const char* text) {
  const size_t bytes = strlen(text);
  _exit(write(destination, text, bytes) == (ssize_t)bytes ? 0 : 1);
}

const char* read_report(int from, pid_t child, char* text, size_t bytes) {
  struct pollfd ready = {.fd = from, .events = POLLIN};
  ssize_t got = 0;
  if (poll(&ready, 1, kTimeLimit) == 1) {
    got = read(from, text, bytes - 1);
  } else {
    kill(-child, SIGKILL);
    kill(child, SIGKILL);
  }
  close(from);
  int ending = 0;
  waitpid(child, &ending, 0);
  if (got > 0) {
    text[got] = '\0';
  } else if (WIFSIGNALED(ending)) {
    snprintf(text, bytes, "%s by SIG%s",
             ready.revents == 0 ? "was too slow, and killed" : "was killed",
             sigabbrev_np(WTERMSIG(ending)));
  } else {
    snprintf(text, bytes, "exited with status %d", WEXITSTATUS(ending));
  }
  return text;
}
