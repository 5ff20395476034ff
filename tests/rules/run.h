// Between the harness and its children: how a text gets out of a child.
#pragma once

#include <stddef.h>
#include <sys/types.h>

/// Begins the text of a rule that cannot be tried here.
#define SKIPPED "skipped: "

/// Where report() writes.
void report_to(int descriptor);
/// Ends this process with its text.
_Noreturn void report(const char* text);
/// The child's text, or how it ended without one. Waits for the child, and kills it and its
/// children when it takes too long. Closes `from`.
const char* read_report(int from, pid_t child, char* text, size_t bytes);
