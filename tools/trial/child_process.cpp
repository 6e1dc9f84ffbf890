// SPDX-License-Identifier: Apache-2.0
#include "tools/trial/child_process.hpp"

#include <cerrno>
#include <csignal>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace wherry::tools {

namespace {

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (auto& text : texts) {
        pointers.push_back(text.data());
    }
    pointers.push_back(nullptr);
    return pointers;
}

} // namespace

formats::Result<ChildProcess> ChildProcess::start(
    std::span<const std::string> arguments,
    std::span<const std::string> extra_environment,
    const std::filesystem::path& output) {
    std::vector<std::string> argument_texts{arguments.begin(), arguments.end()};
    // The later of two equal names loses in getenv: ours come first.
    std::vector<std::string> environment_texts{extra_environment.begin(), extra_environment.end()};
    for (char** entry = environ; *entry != nullptr; ++entry) {
        environment_texts.emplace_back(*entry);
    }
    auto argv = pointers_to(argument_texts);
    auto envp = pointers_to(environment_texts);

    posix_spawn_file_actions_t actions{};
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(
        &actions, STDOUT_FILENO, output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    pid_t pid = -1;
    const int problem =
        ::posix_spawn(&pid, argv.front(), &actions, nullptr, argv.data(), envp.data());
    ::posix_spawn_file_actions_destroy(&actions);
    if (problem != 0) {
        return formats::fail(formats::system_error(problem, "cannot start " + arguments.front()));
    }
    return ChildProcess{pid};
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_{std::exchange(other.pid_, -1)},
      exit_code_{other.exit_code_} {}

ChildProcess::~ChildProcess() {
    if (pid_ < 0 || exit_code_) {
        return;
    }
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

std::optional<int> ChildProcess::poll() {
    int status = 0;
    if (!exit_code_ && ::waitpid(pid_, &status, WNOHANG) == pid_) {
        constexpr int signalled = 128;
        exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : signalled + WTERMSIG(status);
    }
    return exit_code_;
}

} // namespace wherry::tools
