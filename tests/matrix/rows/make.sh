# shellcheck shell=bash
# title: make -j2 of a C project of 31 files, and the program it makes
set -e -o pipefail
mkdir src
for i in {1..30}; do
  cat > "src/part$i.c" <<EOF
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "parts.h"
struct node$i { struct node$i *left, *right; int key; char text[$(( i * 3 ))]; };
static struct node$i *insert(struct node$i *tree, int key) {
  if (!tree) { tree = calloc(1, sizeof *tree); tree->key = key; snprintf(tree->text, sizeof tree->text, "%d", key); return tree; }
  if (key < tree->key) tree->left = insert(tree->left, key);
  else if (key > tree->key) tree->right = insert(tree->right, key);
  return tree;
}
static long walk(const struct node$i *tree, int depth) {
  return tree ? walk(tree->left, depth + 1) + (long)tree->key * depth + (long)strlen(tree->text) + walk(tree->right, depth + 1) : 0;
}
long part$i(int n) {
  struct node$i *tree = NULL;
  for (int k = 1; k <= n; ++k) tree = insert(tree, (k * $(( i * 7919 ))) % 10007);
  return walk(tree, 1);
}
EOF
done
{ for i in {1..30}; do echo "long part$i(int n);"; done; } > src/parts.h
{ echo '#include <stdio.h>'; echo '#include "parts.h"'; echo 'int main(void) {'
  for i in {1..30}; do echo "  printf(\"part$i %ld\\n\", part$i(5000));"; done; echo '  return 0; }'; } > src/main.c
cat > Makefile <<'EOF'
SOURCES := $(wildcard src/*.c)
OBJECTS := $(SOURCES:src/%.c=%.o)
program: $(OBJECTS)
	@$(CC) -o $@ $(sort $(OBJECTS))
%.o: src/%.c src/parts.h
	@$(CC) -O2 -g -Wall -c -o $@ $<
clean: ; rm -f *.o program
EOF
make -j2
./program
touch -d '1 hour' src/main.c
make -j2 -n
make -q clean || echo "to be made: $?"
