// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <doctest/doctest.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

namespace wherry::tests {

namespace seccomp {

constexpr auto load = static_cast<std::uint16_t>(BPF_LD | BPF_W | BPF_ABS);
constexpr auto equal = static_cast<std::uint16_t>(BPF_JMP | BPF_JEQ | BPF_K);
constexpr auto answer = static_cast<std::uint16_t>(BPF_RET | BPF_K);

template <std::size_t Count>
void install(std::array<sock_filter, Count> rules) {
    sock_fprog program{.len = Count, .filter = rules.data()};
    REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    REQUIRE(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

} // namespace seccomp

/// From here on the kernel answers this thread's system calls of that number with `error`, and
/// those of the threads that it starts. It cannot be taken back: for threads that end soon.
inline void refuse_call(std::uint32_t number, std::uint32_t error) {
    seccomp::install(std::array<sock_filter, 4>{{
        {.code = seccomp::load, .jt = 0, .jf = 0, .k = offsetof(seccomp_data, nr)},
        {.code = seccomp::equal, .jt = 0, .jf = 1, .k = number},
        {.code = seccomp::answer, .jt = 0, .jf = 0, .k = SECCOMP_RET_ERRNO | error},
        {.code = seccomp::answer, .jt = 0, .jf = 0, .k = SECCOMP_RET_ALLOW},
    }});
}

/// As refuse_call, for one request of ioctl.
inline void refuse_ioctl(std::uint32_t request, std::uint32_t error) {
    constexpr std::uint32_t second_argument = offsetof(seccomp_data, args) + sizeof(std::uint64_t);
    seccomp::install(std::array<sock_filter, 6>{{
        {.code = seccomp::load, .jt = 0, .jf = 0, .k = offsetof(seccomp_data, nr)},
        {.code = seccomp::equal, .jt = 0, .jf = 3, .k = SYS_ioctl},
        {.code = seccomp::load, .jt = 0, .jf = 0, .k = second_argument},
        {.code = seccomp::equal, .jt = 0, .jf = 1, .k = request},
        {.code = seccomp::answer, .jt = 0, .jf = 0, .k = SECCOMP_RET_ERRNO | error},
        {.code = seccomp::answer, .jt = 0, .jf = 0, .k = SECCOMP_RET_ALLOW},
    }});
}

} // namespace wherry::tests
