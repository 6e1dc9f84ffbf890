// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_file.hpp"

#include "vmm/unique_fd.hpp"

#include <algorithm>
#include <cerrno>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace wherry::migrate {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

class FileSource final : public ImageSource {
public:
    FileSource(vmm::UniqueFd file, Bytes size, std::string name)
        : file_{std::move(file)},
          size_{size},
          name_{std::move(name)} {}

    [[nodiscard]] Bytes size() const noexcept override { return size_; }
    [[nodiscard]] std::string name() const override { return name_; }

    Status read(Bytes at, std::span<std::byte> into) override {
        while (!into.empty()) {
            const auto got =
                ::pread(file_.get(), into.data(), into.size(), static_cast<off_t>(at.value()));
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got < 0) {
                return fail(formats::system_error(errno, name_));
            }
            if (got == 0) {
                return fail(ErrorCode::corrupted, name_ + ": it has become shorter");
            }
            into = into.subspan(static_cast<std::size_t>(got));
            at += Bytes{static_cast<std::uint64_t>(got)};
        }
        return {};
    }

private:
    vmm::UniqueFd file_;
    Bytes size_;
    std::string name_;
};

std::filesystem::path parent_of(const std::filesystem::path& path) {
    return path.has_parent_path() ? path.parent_path() : std::filesystem::path{"."};
}

Status refuse_existing(const std::string& path) {
    return fail(ErrorCode::already_exists, path + " is there already; name another file");
}

std::string in_mib(Bytes bytes) {
    return fmt::format("{:.1f} MiB", static_cast<double>(bytes.value()) / (1024.0 * 1024.0));
}

} // namespace

Result<std::unique_ptr<ImageSource>> open_image(const std::filesystem::path& path) {
    vmm::UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    struct stat about{};
    if (!file.is_open() || ::fstat(file.get(), &about) != 0) {
        return fail(formats::system_error(errno, path.string()));
    }
    if (!S_ISREG(about.st_mode)) {
        return fail(ErrorCode::invalid_argument, path.string() + ": it is not a file");
    }
    const Bytes size{static_cast<std::uint64_t>(about.st_size)};
    return std::make_unique<FileSource>(std::move(file), size, path.string());
}

Status NewImageFile::check(const std::filesystem::path& path) {
    const auto parent = parent_of(path);
    std::error_code problem;
    if (path.filename().empty() || !std::filesystem::is_directory(parent, problem)) {
        return fail(
            ErrorCode::not_found,
            fmt::format("{}: there is no directory {}", path.string(), parent.string()));
    }
    return std::filesystem::exists(path, problem) ? refuse_existing(path.string()) : Status{};
}

Result<NewImageFile> NewImageFile::create(const std::filesystem::path& path) {
    if (auto possible = check(path); !possible) {
        return fail(std::move(possible).error());
    }
    auto directory = open_directory(parent_of(path), DirectoryUse::own);
    if (!directory) {
        return fail(std::move(directory).error());
    }
    return create(*std::move(directory), path.filename().string());
}

Result<NewImageFile> NewImageFile::create(std::shared_ptr<Directory> directory, std::string name) {
    if (const auto there = directory->open(name); there) {
        return fail(refuse_existing(directory->path_of(name)).error());
    } else if (there.error().code() != ErrorCode::not_found) {
        return fail(there.error());
    }
    auto temporary = fmt::format("{}.{}.new", name, ::getpid());
    // Of a process that was killed and had this number.
    auto removed = directory->remove(temporary);
    if (!removed) {
        return fail(std::move(removed).error());
    }
    auto file = directory->create(temporary);
    if (!file) {
        return fail(std::move(file).error());
    }
    return NewImageFile{
        std::move(directory), std::move(name), std::move(temporary), *std::move(file)};
}

NewImageFile::NewImageFile(
    std::shared_ptr<Directory> directory,
    std::string name,
    std::string temporary,
    std::unique_ptr<DiskFile> file)
    : directory_{std::move(directory)},
      name_{std::move(name)},
      temporary_{std::move(temporary)},
      file_{std::move(file)} {}

NewImageFile::~NewImageFile() {
    if (file_) {
        file_.reset();
        std::ignore = directory_->remove(temporary_); // whoever gave up has said why
    }
}

Status NewImageFile::append(std::span<const std::byte> bytes) {
    auto done = file_->append(bytes);
    if (done) {
        written_ += Bytes{bytes.size()};
        return {};
    }
    if (done.error().code() != ErrorCode::out_of_resources) {
        return done;
    }
    const Bytes needed = std::max(expected_, written_ + Bytes{bytes.size()});
    return fail(
        ErrorCode::out_of_resources,
        fmt::format(
            "{}; the image needs up to {}, of which {} found no room",
            done.error().text(),
            in_mib(needed),
            in_mib(needed - written_)));
}

Status NewImageFile::publish() {
    auto done =
        formats::then(file_->sync(), [this] { return directory_->rename(temporary_, name_); });
    if (!done) {
        return done;
    }
    file_.reset();
    return directory_->sync();
}

} // namespace wherry::migrate
