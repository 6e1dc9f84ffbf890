// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/trace.hpp"

#include <cerrno>
#include <chrono>

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace wherry::vmm::mshvsim {

using formats::fail;
using formats::Result;

Result<std::unique_ptr<Trace>> Trace::open(const std::string& path) {
    UniqueFd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)};
    if (!file.is_open()) {
        return fail(formats::system_error(errno, "opening the trace file " + path));
    }
    return std::make_unique<Trace>(std::move(file));
}

void Trace::write(std::string line) {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
    line = fmt::format(
        "{}.{:06} [{}] {}\n",
        microseconds / 1'000'000,
        microseconds % 1'000'000,
        ::syscall(SYS_gettid),
        line);
    // One write in append mode: lines of several threads do not mix. A full disk costs the trace.
    [[maybe_unused]] const auto written = ::write(file_.get(), line.data(), line.size());
}

void Trace::opened(int descriptor) {
    write(fmt::format("open(/dev/mshv) = {}", descriptor));
}

void Trace::ioctl(const TracedCall& call) {
    const int error = errno;
    write(describe(call));
    errno = error;
}

} // namespace wherry::vmm::mshvsim
