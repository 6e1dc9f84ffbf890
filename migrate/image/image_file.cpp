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

constexpr std::string_view temporary_ending = ".new";

/// NAME.PID.new, of any process.
bool is_temporary_of(std::string_view name, std::string_view found) {
    if (!found.starts_with(name) || !found.ends_with(temporary_ending)) {
        return false;
    }
    found.remove_prefix(name.size());
    if (!found.starts_with('.') || found.size() <= temporary_ending.size() + 1) {
        return false;
    }
    const auto number = found.substr(1, found.size() - 1 - temporary_ending.size());
    return std::ranges::all_of(number, [](char c) { return c >= '0' && c <= '9'; });
}

/// Who writes one holds a lock on it, which ends with its process.
Status remove_leftovers(Directory& directory, std::string_view name) {
    const auto names = directory.names();
    if (!names) {
        return fail(names.error());
    }
    for (const auto& found : *names) {
        if (!is_temporary_of(name, found)) {
            continue;
        }
        const auto lock = directory.lock(found);
        if (!lock && lock.error().code() == ErrorCode::already_exists) {
            continue;
        }
        auto removed = lock ? directory.remove(found) : fail(lock.error());
        if (!removed) {
            return removed;
        }
    }
    return {};
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

Status NewImageFile::check(const std::filesystem::path& path, ExistingFile existing) {
    const auto parent = parent_of(path);
    std::error_code problem;
    if (path.filename().empty() || !std::filesystem::is_directory(parent, problem)) {
        return fail(
            ErrorCode::not_found,
            fmt::format("{}: there is no directory {}", path.string(), parent.string()));
    }
    const auto there = std::filesystem::symlink_status(path, problem).type();
    if (there == std::filesystem::file_type::not_found) {
        return {};
    }
    if (existing == ExistingFile::refused) {
        return refuse_existing(path.string());
    }
    return there == std::filesystem::file_type::regular
               ? Status{}
               : fail(
                     ErrorCode::already_exists,
                     path.string() + " is there, and is no file that could be replaced");
}

Result<NewImageFile>
NewImageFile::create(const std::filesystem::path& path, ExistingFile existing) {
    if (auto possible = check(path, existing); !possible) {
        return fail(std::move(possible).error());
    }
    auto directory = open_directory(parent_of(path), DirectoryUse::own);
    if (!directory) {
        return fail(std::move(directory).error());
    }
    return create(*std::move(directory), path.filename().string(), existing);
}

Result<NewImageFile> NewImageFile::create(
    std::shared_ptr<Directory> directory, std::string name, ExistingFile existing) {
    if (existing == ExistingFile::refused) {
        if (const auto there = directory->open(name); there) {
            return fail(refuse_existing(directory->path_of(name)).error());
        } else if (there.error().code() != ErrorCode::not_found) {
            return fail(there.error());
        }
    }
    auto temporary = fmt::format("{}.{}{}", name, ::getpid(), temporary_ending);
    NewImageFile file{std::move(directory), std::move(name), std::move(temporary), existing};
    if (auto opened = file.open(); !opened) {
        return fail(std::move(opened).error());
    }
    return file;
}

NewImageFile::NewImageFile(
    std::shared_ptr<Directory> directory,
    std::string name,
    std::string temporary,
    ExistingFile existing)
    : directory_{std::move(directory)},
      name_{std::move(name)},
      temporary_{std::move(temporary)},
      existing_{existing} {}

Status NewImageFile::open() {
    if (auto removed = remove_leftovers(*directory_, name_); !removed) {
        return removed;
    }
    auto file = directory_->create(temporary_);
    if (!file) {
        return fail(std::move(file).error());
    }
    file_ = *std::move(file);
    auto lock = directory_->lock(temporary_);
    if (!lock) {
        return fail(std::move(lock).error());
    }
    lock_ = *std::move(lock);
    file_->write_through();
    return {};
}

NewImageFile::~NewImageFile() {
    if (file_) {
        file_.reset();
        std::ignore = directory_->remove(temporary_); // whoever gave up has said why
    }
}

formats::Error NewImageFile::explain_full_disk(const formats::Error& error) const {
    const Bytes needed = std::max(expected_, written_);
    return {
        ErrorCode::out_of_resources,
        fmt::format(
            "{}; the image needs up to {}, of which {} found no room",
            error.text(),
            in_mib(needed),
            in_mib(needed - written_))};
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
    expected_ = std::max(expected_, written_ + Bytes{bytes.size()});
    return fail(explain_full_disk(done.error()));
}

Status NewImageFile::publish() {
    auto synced = file_->sync();
    if (!synced && synced.error().code() == ErrorCode::out_of_resources) {
        return fail(explain_full_disk(synced.error()));
    }
    auto done = formats::then(std::move(synced), [this] {
        return existing_ == ExistingFile::replaced ? directory_->rename(temporary_, name_)
                                                   : directory_->rename_to_new(temporary_, name_);
    });
    if (!done) {
        return done;
    }
    file_.reset();
    lock_.reset();
    return directory_->sync();
}

} // namespace wherry::migrate
