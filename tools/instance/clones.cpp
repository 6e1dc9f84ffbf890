// SPDX-License-Identifier: Apache-2.0
// Many VMs of one image, each in a process of its own.
#include "migrate/image/image_chain.hpp"
#include "tools/instance/instance.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include <sys/wait.h>
#include <unistd.h>

namespace wherry::tools {

namespace {

constexpr std::string_view name_mark = "%n";

std::string with_name(std::string text, std::string_view name) {
    for (auto at = text.find(name_mark); at != std::string::npos;
         at = text.find(name_mark, at + name.size())) {
        text.replace(at, name_mark.size(), name);
    }
    return text;
}

sigset_t watched_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGCHLD}) {
        sigaddset(&set, signal);
    }
    return set;
}

/// Waits for all, passing signals on. Whether all ended well.
bool await_all(std::vector<pid_t> clones, const sigset_t& watched) {
    bool all_well = true;
    while (!clones.empty()) {
        int signal = 0;
        if (::sigwait(&watched, &signal) != 0) {
            continue;
        }
        if (signal != SIGCHLD) {
            for (const pid_t clone : clones) {
                ::kill(clone, SIGTERM);
            }
            continue;
        }
        int status = 0;
        for (pid_t ended = ::waitpid(-1, &status, WNOHANG); ended > 0;
             ended = ::waitpid(-1, &status, WNOHANG)) {
            std::erase(clones, ended);
            all_well = all_well && WIFEXITED(status) && WEXITSTATUS(status) == 0;
        }
    }
    return all_well;
}

} // namespace

ExitCode restore_clones(const RestoreOptions& options, unsigned count) {
    std::string base = options.name;
    if (base.empty()) {
        const auto image = migrate::ImageChain::open(options.image, options.access, options.bases);
        if (!image) {
            return fail_with(image.error());
        }
        base = image->description().plan.vm_name;
    }
    const sigset_t watched = watched_signals();
    sigset_t before;
    ::pthread_sigmask(SIG_BLOCK, &watched, &before);
    std::fflush(nullptr); // what is buffered would be written by each
    std::vector<pid_t> clones;
    bool all_started = true;
    for (unsigned number = 1; number <= count; ++number) {
        const pid_t clone = ::fork();
        if (clone == 0) {
            ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
            RestoreOptions own = options;
            own.name = fmt::format("{}-{}", base, number);
            own.host.serial = with_name(own.host.serial, own.name);
            own.is_clone = true;
            const auto code = restore_instance(own);
            std::fflush(nullptr);
            std::_Exit(static_cast<int>(code));
        }
        if (clone < 0) {
            print_error(formats::system_error(errno, "starting a process for a clone"));
            all_started = false;
            break;
        }
        clones.push_back(clone);
    }
    const bool all_well = await_all(std::move(clones), watched);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return all_started && all_well ? ExitCode::done : ExitCode::failed;
}

} // namespace wherry::tools
