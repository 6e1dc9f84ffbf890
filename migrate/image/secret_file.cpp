// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/secret_file.hpp"

#include "vmm/unique_fd.hpp"

#include <cerrno>

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

constexpr std::size_t size_limit = std::size_t{64} << 10U;

enum class Readers : bool { owner, anyone };

Result<std::string> read_file(const std::filesystem::path& path, Readers readers) {
    const vmm::UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    struct stat about{};
    if (!file.is_open() || ::fstat(file.get(), &about) != 0) {
        return fail(formats::system_error(errno, path.string()));
    }
    if (readers == Readers::owner && (about.st_mode & 077U) != 0) {
        return fail(
            ErrorCode::permission,
            fmt::format(
                "the key {0} is open to others (mode {1:04o}): chmod 600 {0}",
                path.string(),
                about.st_mode & 07777U));
    }
    std::string text(size_limit, '\0');
    std::size_t length = 0;
    while (length < text.size()) {
        const auto got = ::read(file.get(), text.data() + length, text.size() - length);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail(formats::system_error(errno, path.string()));
        }
        if (got == 0) {
            text.resize(length);
            return text;
        }
        length += static_cast<std::size_t>(got);
    }
    return fail(ErrorCode::invalid_argument, path.string() + " is too long to hold a key");
}

} // namespace

Result<std::string> read_secret_file(const std::filesystem::path& path) {
    return read_file(path, Readers::owner);
}

Result<std::string> read_small_file(const std::filesystem::path& path) {
    return read_file(path, Readers::anyone);
}

} // namespace wherry::migrate
