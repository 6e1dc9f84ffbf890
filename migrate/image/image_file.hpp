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

/// Where an image is written to, from its beginning to its end. One thread at a time.
class ImageSink {
public:
    ImageSink() = default;
    ImageSink(const ImageSink&) = delete;
    ImageSink& operator=(const ImageSink&) = delete;
    virtual ~ImageSink() = default;

    /// How large it will be at most, so that a full disk can be told by how much.
    virtual void expect(formats::Bytes size) = 0;
    virtual formats::Status append(std::span<const std::byte> bytes) = 0;
    /// From any thread: nobody wants what is being appended. An append() that waits for somebody
    /// ends as `cancelled`, and so does one to come.
    virtual void interrupt() noexcept {}
    /// All that was appended.
    [[nodiscard]] virtual formats::Bytes written() const noexcept = 0;
    /// It is whole, and nothing may follow: durable where it can be.
    virtual formats::Status publish() = 0;
    /// For messages.
    [[nodiscard]] virtual std::string name() const = 0;

protected:
    ImageSink(ImageSink&&) noexcept = default;
};

/// What becomes of a file that has the name of a new one.
enum class ExistingFile : std::uint8_t {
    refused,  ///< it may be the other half
    replaced, ///< by the new one, once that is whole and durable
};

/// A file that appears under its name when it is whole and durable, or not at all: until publish()
/// it is called NAME.PID.new, and is removed where it does not come to that; what a process that
/// was killed has left of one is removed by the next of that name. Only its user may read it, for
/// it holds a guest's memory. It does not stay in the page cache.
class NewImageFile final : public ImageSink {
public:
    /// Error{already_exists} where there is a file of that name, and it is refused, or where this
    /// process is writing one.
    static formats::Result<NewImageFile>
    create(const std::filesystem::path& path, ExistingFile existing = ExistingFile::refused);
    /// As above, in a directory that is open.
    static formats::Result<NewImageFile> create(
        std::shared_ptr<Directory> directory,
        std::string name,
        ExistingFile existing = ExistingFile::refused);
    /// As create() would answer, without making anything.
    static formats::Status
    check(const std::filesystem::path& path, ExistingFile existing = ExistingFile::refused);
    NewImageFile(NewImageFile&& other) noexcept = default;
    NewImageFile& operator=(NewImageFile&&) = delete;
    NewImageFile(const NewImageFile&) = delete;
    NewImageFile& operator=(const NewImageFile&) = delete;
    ~NewImageFile() override;

    void expect(formats::Bytes size) noexcept override { expected_ = size; }
    /// `out_of_resources`, saying how much is missing, where the disk is full.
    formats::Status append(std::span<const std::byte> bytes) override;
    [[nodiscard]] formats::Bytes written() const noexcept override { return written_; }
    /// Nothing may follow. After an Error there is no such file, or a whole one; one that was to be
    /// replaced is there as it was, or replaced by the whole one.
    formats::Status publish() override;
    [[nodiscard]] std::string name() const override { return directory_->path_of(name_); }

private:
    NewImageFile(
        std::shared_ptr<Directory> directory,
        std::string name,
        std::string temporary,
        ExistingFile existing);
    formats::Status open();
    [[nodiscard]] formats::Error explain_full_disk(const formats::Error& error) const;

    std::shared_ptr<Directory> directory_; ///< this file's, and of whoever gave it
    std::string name_;
    std::string temporary_;
    ExistingFile existing_;
    std::unique_ptr<DiskLock> lock_; ///< on the temporary file: somebody is writing it
    std::unique_ptr<DiskFile> file_; ///< null: published, or moved from
    formats::Bytes expected_;
    formats::Bytes written_;
};

} // namespace wherry::migrate
