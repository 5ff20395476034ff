// Names that the server, the shim, the pagers and the tools have to agree on.
#pragma once

/// Where programs find the server when nothing else is said.
#define VM_DEFAULT_SOCKET "/run/vmserver.sock"
/// Appended to the program socket's path: the RPC socket of pagers and tools.
#define VM_RPC_SUFFIX ".rpc"

/// Environment of a preloaded program.
#define VM_ENV_SOCKET "VMSHIM_SOCKET"      ///< the program socket
#define VM_ENV_ON_ERROR "VMSHIM_ON_ERROR"  ///< "native": run unserved when no server is reachable
#define VM_ENV_CAPTURE "VMSHIM_CAPTURE"    ///< "libc" (default): libc's own calls too; "plt": not
#define VM_ENV_LOG "VMSHIM_LOG"            ///< "debug": say on stderr what the shim does

/// Exit status of a preloaded program that found no server, or whose environment makes no sense.
#define VM_EXIT_NO_SERVER 127
/// Exit status of a served program whose server went away.
#define VM_EXIT_SERVER_LOST 126
/// Exit status of a forked child that cannot have the memory its parent left it.
#define VM_EXIT_NO_MEMORY 125
