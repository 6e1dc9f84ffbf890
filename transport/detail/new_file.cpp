// SPDX-License-Identifier: Apache-2.0
#include "transport/detail/new_file.hpp"

#include <cerrno>
#include <cstdio>
#include <string>

#include <fcntl.h>
#include <unistd.h>

namespace wherry::transport::detail {

using formats::Status;
using formats::system_error;

namespace {

// The errno of the first step that failed, or 0. Closes `file` in every case.
int fill_and_close(int file, std::string_view text) {
    int failure = 0;
    while (!text.empty() && failure == 0) {
        const auto written = ::write(file, text.data(), text.size());
        if (written < 0) {
            failure = errno == EINTR ? 0 : errno;
        } else {
            text.remove_prefix(static_cast<std::size_t>(written));
        }
    }
    if (failure == 0 && ::fsync(file) != 0) {
        failure = errno;
    }
    if (::close(file) != 0 && failure == 0) {
        failure = errno;
    }
    return failure;
}

// The errno, or 0.
int sync_directory(const std::filesystem::path& directory) {
    const int file = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return file < 0 ? errno : fill_and_close(file, {});
}

} // namespace

Status write_new_file(const std::filesystem::path& path, std::string_view text, mode_t mode) {
    const auto directory = path.has_parent_path() ? path.parent_path() : ".";
    const auto temporary =
        directory / ("." + path.filename().string() + "." + std::to_string(::getpid()));
    const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (file < 0) {
        return formats::fail(system_error(errno, "cannot make " + temporary.string()));
    }
    int failure = fill_and_close(file, text);
    if (failure == 0 &&
        ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) != 0) {
        failure = errno;
    }
    if (failure != 0) {
        ::unlink(temporary.c_str());
        return formats::fail(system_error(failure, "cannot make " + path.string()));
    }
    failure = sync_directory(directory);
    if (failure != 0) {
        return formats::fail(system_error(failure, "cannot make " + path.string() + " durable"));
    }
    return Status{};
}

} // namespace wherry::transport::detail
