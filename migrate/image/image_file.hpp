// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"
#include "migrate/ownership/disk.hpp"

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace wherry::migrate {

/// Where an image is read from: a file, or memory. One thread.
class ImageSource {
public:
    virtual ~ImageSource() = default;
    [[nodiscard]] virtual formats::Bytes size() const noexcept = 0;
    /// All of `into`, which lies inside size().
    virtual formats::Status read(formats::Bytes at, std::span<std::byte> into) = 0;
    /// For messages.
    [[nodiscard]] virtual std::string name() const = 0;
};

formats::Result<std::unique_ptr<ImageSource>> open_image(const std::filesystem::path& path);

/// A file that appears under its name when it is whole and durable, or not at all: until publish()
/// it is called NAME.PID.new, and is removed where it does not come to that. Only its user may read
/// it, for it holds a guest's memory. One thread.
class NewImageFile {
public:
    /// Error{already_exists} where there is a file of that name: it may be the other half.
    static formats::Result<NewImageFile> create(const std::filesystem::path& path);
    /// As above, in a directory that is open.
    static formats::Result<NewImageFile>
    create(std::shared_ptr<Directory> directory, std::string name);
    /// As create() would answer, without making anything.
    static formats::Status check(const std::filesystem::path& path);
    NewImageFile(NewImageFile&& other) noexcept = default;
    NewImageFile& operator=(NewImageFile&&) = delete;
    NewImageFile(const NewImageFile&) = delete;
    NewImageFile& operator=(const NewImageFile&) = delete;
    ~NewImageFile();

    /// How large it will be at most, so that a full disk can be told by how much.
    void expect(formats::Bytes size) noexcept { expected_ = size; }
    /// `out_of_resources`, saying how much is missing, where the disk is full.
    formats::Status append(std::span<const std::byte> bytes);
    [[nodiscard]] formats::Bytes written() const noexcept { return written_; }
    /// Nothing may follow. After an Error there is no such file, or a whole one.
    formats::Status publish();
    [[nodiscard]] std::string path() const { return directory_->path_of(name_); }

private:
    NewImageFile(
        std::shared_ptr<Directory> directory,
        std::string name,
        std::string temporary,
        std::unique_ptr<DiskFile> file);

    std::shared_ptr<Directory> directory_; ///< this file's, and of whoever gave it
    std::string name_;
    std::string temporary_;
    std::unique_ptr<DiskFile> file_; ///< null: published, or moved from
    formats::Bytes expected_;
    formats::Bytes written_;
};

} // namespace wherry::migrate
