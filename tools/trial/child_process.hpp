// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include <sys/types.h>

namespace wherry::tools {

/// A program we started. Killed and reaped when it goes out of scope.
class ChildProcess {
public:
    /// argv[0] is the path of the program. Standard output and error go to `output` (appended).
    static formats::Result<ChildProcess> start(
        std::span<const std::string> arguments,
        std::span<const std::string> extra_environment,
        const std::filesystem::path& output);
    ChildProcess(ChildProcess&& other) noexcept;
    ChildProcess& operator=(ChildProcess&&) = delete;
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;
    ~ChildProcess();

    /// Its exit code once it has ended (128 + signal where one ended it).
    std::optional<int> poll();

private:
    explicit ChildProcess(pid_t pid) : pid_{pid} {}
    pid_t pid_;
    std::optional<int> exit_code_;
};

} // namespace wherry::tools
