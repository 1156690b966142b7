"""The calls of the kernel that code in the sandbox may make, by name; everything else is refused.

The numbers are the kernel's, which never changes them: arch/x86/entry/syscalls/syscall_64.tbl for x86_64,
include/uapi/asm-generic/unistd.h for aarch64 (None: it has no such call).
"""

from __future__ import annotations

from typing import NamedTuple


class Numbers(NamedTuple):
    """The number of a call on each processor."""

    x86_64: int | None
    aarch64: int | None


def _table(text: str) -> dict[str, Numbers]:
    found: dict[str, Numbers] = {}
    for line in text.split("\n"):
        if line.strip():
            name, x86_64, aarch64 = line.split()
            found[name] = Numbers(*(None if number == "-" else int(number) for number in (x86_64, aarch64)))
    return found


ALLOWED = _table(
    """
    read 0 63
    write 1 64
    open 2 -
    openat 257 56
    openat2 437 437
    close 3 57
    close_range 436 436
    creat 85 -
    stat 4 -
    fstat 5 80
    lstat 6 -
    newfstatat 262 79
    statx 332 291
    statfs 137 43
    fstatfs 138 44
    access 21 -
    faccessat 269 48
    faccessat2 439 439
    lseek 8 62
    pread64 17 67
    pwrite64 18 68
    readv 19 65
    writev 20 66
    preadv 295 69
    pwritev 296 70
    preadv2 327 286
    pwritev2 328 287
    sendfile 40 71
    copy_file_range 326 285
    fadvise64 221 223
    fallocate 285 47
    fsync 74 82
    fdatasync 75 83
    truncate 76 45
    ftruncate 77 46
    flock 73 32
    getdents 78 -
    getdents64 217 61
    getcwd 79 17
    chdir 80 49
    fchdir 81 50
    rename 82 -
    renameat 264 38
    renameat2 316 276
    mkdir 83 -
    mkdirat 258 34
    rmdir 84 -
    link 86 -
    linkat 265 37
    unlink 87 -
    unlinkat 263 35
    symlink 88 -
    symlinkat 266 36
    readlink 89 -
    readlinkat 267 78
    chmod 90 -
    fchmod 91 52
    fchmodat 268 53
    umask 95 166
    utime 132 -
    utimes 235 -
    utimensat 280 88
    futimesat 261 -
    dup 32 23
    dup2 33 -
    dup3 292 24
    pipe 22 -
    pipe2 293 59
    eventfd 284 -
    eventfd2 290 19
    poll 7 -
    ppoll 271 73
    select 23 -
    pselect6 270 72
    epoll_create 213 -
    epoll_create1 291 20
    epoll_ctl 233 21
    epoll_wait 232 -
    epoll_pwait 281 22
    epoll_pwait2 441 441
    timerfd_create 283 85
    timerfd_settime 286 86
    timerfd_gettime 287 87
    signalfd4 289 74
    recvfrom 45 207
    recvmsg 47 212
    shutdown 48 210
    getsockopt 55 209
    setsockopt 54 208
    getsockname 51 204
    getpeername 52 205
    mmap 9 222
    mprotect 10 226
    munmap 11 215
    mremap 25 216
    brk 12 214
    msync 26 227
    mincore 27 232
    madvise 28 233
    rt_sigaction 13 134
    rt_sigprocmask 14 135
    rt_sigreturn 15 139
    rt_sigpending 127 136
    rt_sigtimedwait 128 137
    rt_sigsuspend 130 133
    sigaltstack 131 132
    pause 34 -
    alarm 37 -
    getitimer 36 102
    setitimer 38 103
    nanosleep 35 101
    clock_nanosleep 230 115
    clock_gettime 228 113
    clock_getres 229 114
    gettimeofday 96 169
    time 201 -
    times 100 153
    restart_syscall 219 128
    futex 202 98
    futex_waitv 449 449
    set_robust_list 273 99
    set_tid_address 218 96
    rseq 334 293
    membarrier 324 283
    arch_prctl 158 -
    getpid 39 172
    gettid 186 178
    getppid 110 173
    getpgrp 111 -
    getpgid 121 155
    getsid 124 156
    getuid 102 174
    geteuid 107 175
    getgid 104 176
    getegid 108 177
    getresuid 118 148
    getresgid 120 150
    getgroups 115 158
    wait4 61 260
    waitid 247 95
    getrlimit 97 163
    setrlimit 160 164
    getrusage 98 165
    getpriority 140 141
    sched_yield 24 124
    sched_getaffinity 204 123
    sched_getparam 143 121
    sched_getscheduler 145 120
    sched_get_priority_max 146 125
    sched_get_priority_min 147 126
    getcpu 309 168
    uname 63 160
    sysinfo 99 179
    getrandom 318 278
    exit 60 93
    exit_group 231 94
    """
)
"""Calls that are allowed with any arguments."""

LOOKED_AT = _table(
    """
    clone 56 220
    clone3 435 435
    kill 62 129
    tgkill 234 131
    prlimit64 302 261
    sched_setaffinity 203 122
    prctl 157 167
    ioctl 16 29
    fcntl 72 25
    socketpair 53 199
    sendto 44 206
    """
)
"""Calls that are allowed with some arguments; `seccomp` says which."""

REFUSED = _table(
    """
    socket 41 198
    connect 42 203
    accept 43 202
    accept4 288 242
    bind 49 200
    listen 50 201
    sendmsg 46 211
    sendmmsg 307 269
    recvmmsg 299 243
    fork 57 -
    vfork 58 -
    execve 59 221
    execveat 322 281
    ptrace 101 117
    process_vm_readv 310 270
    process_vm_writev 311 271
    process_madvise 440 440
    process_mrelease 448 448
    pidfd_open 434 434
    pidfd_getfd 438 438
    pidfd_send_signal 424 424
    kcmp 312 272
    tkill 200 130
    rt_sigqueueinfo 129 138
    rt_tgsigqueueinfo 297 240
    setpgid 109 154
    setsid 112 157
    setpriority 141 140
    sched_setscheduler 144 119
    sched_setparam 142 118
    ioprio_set 251 30
    io_setup 206 0
    io_uring_setup 425 425
    io_uring_enter 426 426
    io_uring_register 427 427
    bpf 321 280
    perf_event_open 298 241
    userfaultfd 323 282
    seccomp 317 277
    mount 165 40
    umount2 166 39
    pivot_root 155 41
    chroot 161 51
    open_tree 428 428
    move_mount 429 429
    fsopen 430 430
    unshare 272 97
    setns 308 268
    keyctl 250 219
    add_key 248 217
    request_key 249 218
    memfd_create 319 279
    memfd_secret 447 447
    shmget 29 194
    msgget 68 186
    semget 64 190
    mq_open 240 180
    init_module 175 105
    finit_module 313 273
    kexec_load 246 104
    reboot 169 142
    swapon 167 224
    mknod 133 -
    mknodat 259 33
    inotify_init1 294 26
    fanotify_init 300 262
    name_to_handle_at 303 264
    open_by_handle_at 304 265
    personality 135 92
    setuid 105 146
    setgid 106 144
    setresuid 117 147
    setgroups 116 159
    capset 126 91
    iopl 172 -
    ioperm 173 -
    acct 163 89
    quotactl 179 60
    syslog 103 116
    settimeofday 164 170
    clock_settime 227 112
    sethostname 170 161
    mlock 149 228
    mlockall 151 230
    vmsplice 278 75
    splice 275 76
    tee 276 77
    timer_create 222 107
    """
)
"""Calls that are refused, by name for those who read this and for the tests: so is every other."""
