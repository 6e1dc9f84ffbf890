// SPDX-License-Identifier: Apache-2.0
#include "tools/instance/registry.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <fcntl.h>
#include <sys/stat.h>

namespace wherry::tools {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

namespace fs = std::filesystem;

/// None of what a journal has beside it: somebody may keep both in one directory.
constexpr std::string_view lock_suffix = ".pid";

bool is_good_name(std::string_view name) {
    constexpr std::size_t longest = 64; // a socket's path has 107 bytes in all
    return !name.empty() && name.size() <= longest && name.front() != '.' &&
           std::ranges::all_of(name, [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '.' || c == '-' || c == '_';
           });
}

fs::path lock_file(std::string_view name) {
    return instance_directory() / (std::string{name} + std::string{lock_suffix});
}

fs::path socket_file(std::string_view name) {
    return instance_directory() / (std::string{name} + ".sock");
}

struct flock whole_file() {
    struct flock range{};
    range.l_type = F_WRLCK;
    range.l_whence = SEEK_SET;
    return range;
}

/// Created, open and locked, or already_exists where another process holds it.
Result<vmm::UniqueFd> lock(const fs::path& path) {
    vmm::UniqueFd file{::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (!file.is_open()) {
        return fail(formats::system_error(errno, path.string()));
    }
    auto range = whole_file();
    if (::fcntl(file.get(), F_OFD_SETLK, &range) != 0) {
        return fail(ErrorCode::already_exists, path.string() + " is locked");
    }
    return file;
}

std::string holder_of(const fs::path& path) {
    const vmm::UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    std::string text(32, '\0');
    const auto got = file.is_open() ? ::read(file.get(), text.data(), text.size()) : -1;
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text.empty() ? "another process" : "process " + text;
}

/// Asks without locking: a look must not make a claim fail that happens at the same time.
bool is_alive(std::string_view name) {
    const vmm::UniqueFd file{::open(lock_file(name).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)};
    auto range = whole_file();
    return file.is_open() && ::fcntl(file.get(), F_OFD_GETLK, &range) == 0 &&
           range.l_type != F_UNLCK;
}

/// Whether `file` still is what the path names: its last holder may have unlinked it just before
/// we got the lock, which would then guard nothing.
bool is_current(const vmm::UniqueFd& file, const fs::path& path) {
    struct stat ours{};
    struct stat named{};
    return ::fstat(file.get(), &ours) == 0 && ::stat(path.c_str(), &named) == 0 &&
           ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
}

} // namespace

fs::path instance_directory() {
    // Called before any thread is started that would change the environment: none does.
    const char* runtime = std::getenv("XDG_RUNTIME_DIR"); // NOLINT(concurrency-mt-unsafe)
    const bool usable = runtime != nullptr && *runtime == '/';
    return fs::path{usable ? runtime : "/run"} / "wherry";
}

InstanceName::InstanceName(std::string name, vmm::UniqueFd lock)
    : name_{std::move(name)},
      lock_{std::move(lock)} {}

Result<InstanceName> InstanceName::claim(std::string_view name) {
    if (!is_good_name(name)) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "'{}' is not a name for a VM: 1 to 64 letters, digits, '.', '-', '_'", name));
    }
    std::error_code problem;
    fs::create_directories(instance_directory(), problem);
    if (problem) {
        return fail(formats::system_error(problem.value(), instance_directory().string()));
    }
    if (::chmod(instance_directory().c_str(), 0700) != 0) {
        return fail(formats::system_error(errno, instance_directory().string()));
    }
    for (;;) {
        auto file = lock(lock_file(name));
        if (!file && file.error().code() == ErrorCode::already_exists) {
            return fail(
                ErrorCode::already_exists,
                fmt::format(
                    "the name '{}' is in use by {}; choose another --name or end that VM: "
                    "wherry kill {}",
                    name,
                    holder_of(lock_file(name)),
                    name));
        }
        if (!file) {
            return fail(std::move(file).error());
        }
        if (!is_current(*file, lock_file(name))) {
            continue;
        }
        const auto pid = std::to_string(::getpid());
        if (::ftruncate(file->get(), 0) != 0 ||
            ::pwrite(file->get(), pid.data(), pid.size(), 0) < 0) {
            return fail(formats::system_error(errno, lock_file(name).string()));
        }
        ::unlink(socket_file(name).c_str()); // left by an instance that was killed
        return InstanceName{std::string{name}, std::move(*file)};
    }
}

InstanceName::~InstanceName() {
    release();
}

fs::path InstanceName::socket() const {
    return socket_file(name_);
}

void InstanceName::release() noexcept {
    if (!lock_.is_open()) {
        return;
    }
    ::unlink(socket_file(name_).c_str());
    ::unlink(lock_file(name_).c_str());
    lock_.reset();
}

Result<fs::path> find_instance(std::string_view name) {
    if (is_good_name(name) && is_alive(name)) {
        return socket_file(name);
    }
    const auto names = list_instances();
    return fail(
        ErrorCode::not_found,
        names.empty()
            ? fmt::format(
                  "there is no VM '{}': none runs here (looked in {})",
                  name,
                  instance_directory().string())
            : fmt::format("there is no VM '{}'; there is {}", name, fmt::join(names, ", ")));
}

std::vector<std::string> list_instances() {
    std::vector<std::string> names;
    std::error_code problem; // no directory is no instance
    for (const auto& entry : fs::directory_iterator{instance_directory(), problem}) {
        const auto path = entry.path();
        if (path.extension() == lock_suffix && is_alive(path.stem().string())) {
            names.push_back(path.stem().string());
        }
    }
    std::ranges::sort(names);
    return names;
}

} // namespace wherry::tools
