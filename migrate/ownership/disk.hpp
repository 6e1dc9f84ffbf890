// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// The little that journals, images and the arbiter `file:DIR` want of a file system: behind it is
/// the kernel, or a test that fails any of these calls, before or after it had its effect.
namespace wherry::migrate {

/// A file that only ever grows. One thread.
class DiskFile {
public:
    virtual ~DiskFile() = default;
    /// Error{corrupted} where it holds more than `limit` bytes.
    virtual formats::Result<std::vector<std::byte>> read_all(std::size_t limit) = 0;
    /// At the end of the file. After an Error any part of `bytes` may be there.
    virtual formats::Status append(std::span<const std::byte> bytes) = 0;
    /// Returns when all that was appended is durable. After an Error it may be there or not, and
    /// may read as if it were: Linux drops the pages of a write-back that failed, and the next
    /// sync of the same file reports success.
    virtual formats::Status sync() = 0;
    /// For a large file that nobody reads soon: what is appended from now on is written out as it
    /// comes, and leaves the page cache, which others need more.
    virtual void write_through() = 0;
};

/// Held until it is destroyed, or its process ends.
class DiskLock {
public:
    virtual ~DiskLock() = default;
};

/// Names are of one component. What rename(), link() and create() did to names is durable after
/// sync(); after an Error it has happened or not. One thread.
class Directory {
public:
    virtual ~Directory() = default;
    /// Error{not_found} where there is none.
    virtual formats::Result<std::unique_ptr<DiskFile>> open(std::string_view name) = 0;
    /// Error{already_exists} where there is one.
    virtual formats::Result<std::unique_ptr<DiskFile>> create(std::string_view name) = 0;
    /// On a file of that name, which is made and stays. Error{already_exists} while another
    /// process, or another holder in this one, has it.
    virtual formats::Result<std::unique_ptr<DiskLock>> lock(std::string_view name) = 0;
    /// Replaces a file called `to`.
    virtual formats::Status rename(std::string_view from, std::string_view to) = 0;
    /// As rename(), but Error{already_exists} where `to` is: of several who try, one wins.
    virtual formats::Status rename_to_new(std::string_view from, std::string_view to) = 0;
    /// A second name for a file. Error{already_exists} where `to` is: of several who try, one wins.
    virtual formats::Status link(std::string_view from, std::string_view to) = 0;
    /// A file that is not there is no Error.
    virtual formats::Status remove(std::string_view name) = 0;
    virtual formats::Status sync() = 0;
    /// In no order.
    virtual formats::Result<std::vector<std::string>> names() = 0;
    /// A directory in this one; made, durably, where there is none and `is_made`.
    virtual formats::Result<std::unique_ptr<Directory>>
    enter(std::string_view name, bool is_made) = 0;
    /// For messages.
    [[nodiscard]] virtual std::string path_of(std::string_view name) const = 0;
};

enum class DirectoryUse : std::uint8_t {
    own, ///< made where it is missing (its parent is there); nobody else may read it or its files
    shared, ///< must be there; files in it can be read by all
};

/// A directory of this machine. Error{not_found} where it is missing.
formats::Result<std::unique_ptr<Directory>>
open_directory(const std::filesystem::path& path, DirectoryUse use);

} // namespace wherry::migrate
