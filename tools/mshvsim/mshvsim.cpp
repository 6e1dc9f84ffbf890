// SPDX-License-Identifier: Apache-2.0
// Runs a program with a simulated /dev/mshv.
#include "tools/mshvsim/settings.hpp"
#include "vmm/mshvsim/choices.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include <unistd.h>

namespace {

using namespace wherry::mshvsim_preload;

constexpr const char* usage =
    "usage: mshvsim [--personality 6.18|7.2|7.3] [--engine kvm|soft|auto] [--trace FILE]\n"
    "               -- PROGRAM ARGS...\n"
    "Runs PROGRAM with a simulated /dev/mshv (the Microsoft hypervisor's device on Linux).\n"
    "  --personality  whose kernel's treatment of guest memory is imitated (7.2)\n"
    "  --engine       what runs the guest's code (auto: kvm, else soft)\n"
    "  --trace FILE   one line for each ioctl and hypercall is added to FILE\n";

constexpr int wrong_usage = 2;
constexpr int not_found = 127;

int complain(const std::string& what) {
    std::fprintf(stderr, "mshvsim: %s\n%s", what.c_str(), usage);
    return wrong_usage;
}

/// Beside the program, or where installations have libraries. Empty: nowhere.
std::filesystem::path find_library() {
    std::error_code error;
    const auto folder = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
    for (const auto& candidate :
         {folder / library_name, folder.parent_path() / "lib" / library_name}) {
        if (std::filesystem::exists(candidate, error)) {
            return candidate;
        }
    }
    return {};
}

/// Sets the variable of one option. False: there is no such option or value.
bool take_option(const std::string& option, const char* value) {
    if (option == "--personality" && wherry::vmm::mshvsim::personality_from(value)) {
        return ::setenv(personality_variable, value, 1) == 0;
    }
    if (option == "--engine" && wherry::vmm::mshvsim::engine_from(value)) {
        return ::setenv(engine_variable, value, 1) == 0;
    }
    if (option == "--trace") {
        // The program may change its directory before it opens the device.
        std::error_code error;
        const auto path = std::filesystem::absolute(value, error);
        return ::setenv(trace_variable, path.c_str(), 1) == 0;
    }
    return false;
}

bool preload(const std::filesystem::path& library) {
    const char* const before = std::getenv("LD_PRELOAD");
    const std::string all =
        library.string() + (before != nullptr ? ":" + std::string{before} : std::string{});
    return ::setenv("LD_PRELOAD", all.c_str(), 1) == 0;
}

} // namespace

int main(int argc, char** argv) {
    int at = 1;
    for (; at < argc && std::strcmp(argv[at], "--") != 0; at += 2) {
        const std::string option = argv[at];
        if (option == "--help" || option == "-h") {
            std::fputs(usage, stdout);
            return 0;
        }
        if (at + 1 >= argc || !take_option(option, argv[at + 1])) {
            return complain("cannot take '" + option + "'");
        }
    }
    ++at;
    if (at >= argc) {
        return complain("which program?");
    }
    const auto library = find_library();
    if (library.empty() || !preload(library)) {
        return complain(std::string{library_name} + " is not beside this program");
    }
    ::execvp(argv[at], argv + at);
    std::fprintf(stderr, "mshvsim: starting %s: %s\n", argv[at], std::strerror(errno));
    return not_found;
}
