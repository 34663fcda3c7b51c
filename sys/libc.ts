/**
 * The one table of C library functions, opened when it is first asked for.
 *
 * Every symbol has its C prototype above it. How the types were chosen:
 *
 * - `buffer` where the callee reads or writes one flat structure during the
 *   call; `pointer` where it is an address inside an {@linkcode Arena}
 *   (structures which hold addresses themselves, or which outlive the call).
 * - 64-bit arguments are `u64`/`i64` and are given a `bigint`: a `number` there
 *   takes the slow path and allocates. A bigint that is loaded from a
 *   `BigInt64Array` in the calling function, or a literal, costs nothing.
 * - Results are `i32` wherever the value fits: 64-bit results are slow.
 * - `poll_async` alone is `nonblocking`: such a call runs on another thread, and
 *   its `errno` is lost.
 *
 * @module
 */

/** Names and types of the functions, see the prototypes. */
export const SYMBOLS = {
  // int *__errno_location(void);
  __errno_location: { parameters: [], result: "pointer" },

  // --- descriptors ---------------------------------------------------------
  // int open(const char *pathname, int flags, mode_t mode);
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  // int openat(int dirfd, const char *pathname, int flags, mode_t mode);
  openat: { parameters: ["i32", "buffer", "i32", "u32"], result: "i32" },
  // int close(int fd);
  close: { parameters: ["i32"], result: "i32" },
  // int fcntl(int fd, int cmd, int arg);
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // int fcntl(int fd, int cmd, struct flock *lock);
  fcntl_lock: {
    name: "fcntl",
    parameters: ["i32", "i32", "buffer"],
    result: "i32",
  },
  // int flock(int fd, int operation);
  flock: { parameters: ["i32", "i32"], result: "i32" },
  // int ioctl(int fd, unsigned long request, void *argp);
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  // int ioctl(int fd, unsigned long request, unsigned long arg);
  ioctl_value: {
    name: "ioctl",
    parameters: ["i32", "u64", "u64"],
    result: "i32",
  },
  // ssize_t read(int fd, void *buf, size_t count);
  read: { parameters: ["i32", "buffer", "u64"], result: "i32" },
  // ssize_t write(int fd, const void *buf, size_t count);
  write: { parameters: ["i32", "buffer", "u64"], result: "i32" },
  // int eventfd(unsigned int initval, int flags);
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  // int eventfd_write(int fd, eventfd_t value);
  eventfd_write: { parameters: ["i32", "u64"], result: "i32" },
  // int eventfd_read(int fd, eventfd_t *value);
  eventfd_read: { parameters: ["i32", "buffer"], result: "i32" },

  // int clock_gettime(clockid_t clockid, struct timespec *tp);
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  // int timerfd_create(int clockid, int flags);
  timerfd_create: { parameters: ["i32", "i32"], result: "i32" },
  // int timerfd_settime(int fd, int flags, const struct itimerspec *new_value,
  //                     struct itimerspec *old_value);
  timerfd_settime: {
    parameters: ["i32", "i32", "buffer", "buffer"],
    result: "i32",
  },

  // --- names and metadata --------------------------------------------------
  // int statx(int dirfd, const char *pathname, int flags, unsigned int mask,
  //           struct statx *statxbuf);
  statx: {
    parameters: ["i32", "buffer", "i32", "u32", "buffer"],
    result: "i32",
  },
  // int fstatfs(int fd, struct statfs *buf);
  fstatfs: { parameters: ["i32", "buffer"], result: "i32" },
  // ssize_t readlink(const char *pathname, char *buf, size_t bufsiz);
  readlink: { parameters: ["buffer", "buffer", "u64"], result: "i32" },
  // ssize_t getdents64(int fd, void *dirp, size_t count);
  getdents64: {
    name: "syscall",
    parameters: ["i64", "i32", "buffer", "u64"],
    result: "i32",
  },
  // int unlinkat(int dirfd, const char *pathname, int flags);
  unlinkat: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  // int rename(const char *oldpath, const char *newpath);
  rename: { parameters: ["buffer", "buffer"], result: "i32" },
  // int access(const char *pathname, int mode);
  access: { parameters: ["buffer", "i32"], result: "i32" },
  // char *getenv(const char *name);
  getenv: { parameters: ["buffer"], result: "pointer" },
  // int chmod(const char *pathname, mode_t mode);
  chmod: { parameters: ["buffer", "u32"], result: "i32" },
  // int fchmod(int fd, mode_t mode);
  fchmod: { parameters: ["i32", "u32"], result: "i32" },
  // int fchownat(int dirfd, const char *pathname, uid_t owner, gid_t group,
  //              int flags);
  fchownat: {
    parameters: ["i32", "buffer", "u32", "u32", "i32"],
    result: "i32",
  },

  // --- file data -----------------------------------------------------------
  // void *memcpy(void *dest, const void *src, size_t n);
  memcpy: { parameters: ["u64", "u64", "u64"], result: "pointer" },
  // void *memset(void *s, int c, size_t n);
  memset: { parameters: ["u64", "i32", "u64"], result: "pointer" },
  // ssize_t preadv(int fd, const struct iovec *iov, int iovcnt, off_t offset);
  // Linux moves at most 0x7ffff000 bytes in a call: the result fits in 32 bits.
  preadv: { parameters: ["i32", "u64", "i32", "i64"], result: "i32" },
  // ssize_t pwritev(int fd, const struct iovec *iov, int iovcnt, off_t offset);
  pwritev: { parameters: ["i32", "u64", "i32", "i64"], result: "i32" },
  // ssize_t preadv2(int fd, const struct iovec *iov, int iovcnt, off_t offset,
  //                 int flags);
  preadv2: { parameters: ["i32", "u64", "i32", "i64", "i32"], result: "i32" },
  // ssize_t pwritev2(int fd, const struct iovec *iov, int iovcnt, off_t offset,
  //                  int flags);
  pwritev2: { parameters: ["i32", "u64", "i32", "i64", "i32"], result: "i32" },
  // ssize_t readv(int fd, const struct iovec *iov, int iovcnt);
  readv: { parameters: ["i32", "u64", "i32"], result: "i32" },
  // ssize_t writev(int fd, const struct iovec *iov, int iovcnt);
  writev: { parameters: ["i32", "u64", "i32"], result: "i32" },
  // ssize_t pread(int fd, void *buf, size_t count, off_t offset);
  pread: { parameters: ["i32", "buffer", "u64", "i64"], result: "i32" },
  // ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset);
  pwrite: { parameters: ["i32", "buffer", "u64", "i64"], result: "i32" },
  // The same, with memory by its address.
  preadTo: {
    name: "pread",
    parameters: ["i32", "u64", "u64", "i64"],
    result: "i32",
  },
  pwriteFrom: {
    name: "pwrite",
    parameters: ["i32", "u64", "u64", "i64"],
    result: "i32",
  },
  // int fsync(int fd);
  fsync: { parameters: ["i32"], result: "i32" },
  // int fdatasync(int fd);
  fdatasync: { parameters: ["i32"], result: "i32" },
  // int ftruncate(int fd, off_t length);
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  // int fallocate(int fd, int mode, off_t offset, off_t len);
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  // off_t lseek(int fd, off_t offset, int whence);
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  // int memfd_create(const char *name, unsigned int flags);
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },

  // --- memory --------------------------------------------------------------
  // void *mmap(void *addr, size_t length, int prot, int flags, int fd,
  //            off_t offset);
  mmap: {
    parameters: ["u64", "u64", "i32", "i32", "i32", "i64"],
    result: "u64",
  },
  // int munmap(void *addr, size_t length);
  munmap: { parameters: ["u64", "u64"], result: "i32" },
  // int madvise(void *addr, size_t length, int advice);
  madvise: { parameters: ["u64", "u64", "i32"], result: "i32" },

  // --- sockets -------------------------------------------------------------
  // int socket(int domain, int type, int protocol);
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // int socketpair(int domain, int type, int protocol, int sv[2]);
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  // int bind(int sockfd, const struct sockaddr *addr, socklen_t addrlen);
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  // int listen(int sockfd, int backlog);
  listen: { parameters: ["i32", "i32"], result: "i32" },
  // int accept4(int sockfd, struct sockaddr *addr, socklen_t *addrlen,
  //             int flags);
  accept4: {
    parameters: ["i32", "pointer", "pointer", "i32"],
    result: "i32",
  },
  // int connect(int sockfd, const struct sockaddr *addr, socklen_t addrlen);
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  // int getsockname(int sockfd, struct sockaddr *addr, socklen_t *addrlen);
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  // int getpeername(int sockfd, struct sockaddr *addr, socklen_t *addrlen);
  getpeername: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  // int getsockopt(int sockfd, int level, int optname, void *optval,
  //                socklen_t *optlen);
  getsockopt: {
    parameters: ["i32", "i32", "i32", "buffer", "buffer"],
    result: "i32",
  },
  // ssize_t recvmsg(int sockfd, struct msghdr *msg, int flags);
  recvmsg: { parameters: ["i32", "pointer", "i32"], result: "i32" },
  // ssize_t sendmsg(int sockfd, const struct msghdr *msg, int flags);
  sendmsg: { parameters: ["i32", "pointer", "i32"], result: "i32" },

  // --- waiting -------------------------------------------------------------
  // int epoll_create1(int flags);
  epoll_create1: { parameters: ["i32"], result: "i32" },
  // int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);
  epoll_ctl: { parameters: ["i32", "i32", "i32", "pointer"], result: "i32" },
  // int epoll_wait(int epfd, struct epoll_event *events, int maxevents,
  //                int timeout);
  epoll_wait: { parameters: ["i32", "pointer", "i32", "i32"], result: "i32" },
  // int poll(struct pollfd *fds, nfds_t nfds, int timeout);
  // On a thread of the runtime's pool; errno is lost.
  poll_async: {
    name: "poll",
    parameters: ["pointer", "u64", "i32"],
    result: "i32",
    nonblocking: true,
  },

  // --- io_uring: system calls without a function of their own --------------
  // int io_uring_setup(u32 entries, struct io_uring_params *p);
  io_uring_setup: {
    name: "syscall",
    parameters: ["i32", "u32", "buffer"],
    result: "i32",
  },
  // int io_uring_enter(unsigned int fd, unsigned int to_submit,
  //                    unsigned int min_complete, unsigned int flags,
  //                    const void *argp, size_t argsz);
  io_uring_enter: {
    name: "syscall",
    parameters: ["i32", "i32", "i32", "i32", "i32", "pointer", "u64"],
    result: "i32",
  },
  // int io_uring_register(unsigned int fd, unsigned int opcode, void *arg,
  //                       unsigned int nr_args);
  io_uring_register: {
    name: "syscall",
    parameters: ["i32", "i32", "i32", "pointer", "u32"],
    result: "i32",
  },

  // --- process -------------------------------------------------------------
  // int getrlimit(int resource, struct rlimit *rlim);
  getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  // int setrlimit(int resource, const struct rlimit *rlim);
  setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  // sighandler_t signal(int signum, sighandler_t handler);
  // SIG_IGN, the only handler that is set, is the number 1.
  signal: { parameters: ["i32", "u64"], result: "u64" },
  // pid_t gettid(void);
  gettid: { parameters: [], result: "i32" },
  // int uname(struct utsname *buf);
  uname: { parameters: ["buffer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** The functions of {@linkcode libc}, by their names in the table. */
export type Libc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

let table: Libc | undefined;

/**
 * The C library's functions; opened at the first call, once for each thread.
 *
 * @throws {Deno.errors.NotCapable} without `--allow-ffi`.
 */
export function libc(): Libc {
  return table ?? openLibc();
}

function openLibc(): Libc {
  table = Deno.dlopen("libc.so.6", SYMBOLS).symbols;
  return table;
}

/** A pointer to the memory at `address`; for arguments of type `pointer`. */
export function pointerTo(address: number): Deno.PointerObject {
  const pointer = Deno.UnsafePointer.create(BigInt(address));
  if (pointer === null) throw new RangeError("Cannot point to address 0");
  return pointer;
}

const encoder = new TextEncoder();

/**
 * `text` as a C string: UTF-8 with a final NUL.
 *
 * @throws {RangeError} if `text` has a NUL of its own, which would cut it.
 */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) {
    throw new RangeError(
      `Cannot pass ${JSON.stringify(text)} to the system: it contains a NUL`,
    );
  }
  return encoder.encode(text + "\0") as Uint8Array<ArrayBuffer>;
}
