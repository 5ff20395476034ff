/* peek PID ADDRESS: prints the int there, read with process_vm_readv. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  int value = -1;
  const struct iovec here = {&value, sizeof value};
  const struct iovec there = {(void*)strtoul(argv[2], NULL, 16), sizeof value};
  if (process_vm_readv(atoi(argv[1]), &here, 1, &there, 1, 0) != sizeof value) {
    perror("process_vm_readv");
    return 1;
  }
  printf("%d\n", value);
  return 0;
}
