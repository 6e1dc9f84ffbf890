// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/disk.hpp"

#include "vmm/unique_fd.hpp"

#include <array>
#include <cerrno>
#include <cstdio>

#include <fmt/format.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;
using formats::system_error;
using vmm::UniqueFd;

namespace {

/// Written out and dropped at once. Two of them are under way: one is being written by the disk
/// while the next one is filled.
constexpr off_t write_through_window = off_t{16} << 20;

class PosixFile final : public DiskFile {
public:
    PosixFile(UniqueFd file, std::string path) : file_{std::move(file)}, path_{std::move(path)} {}

    Result<std::vector<std::byte>> read_all(std::size_t limit) override {
        std::vector<std::byte> bytes;
        std::array<std::byte, 4096> piece{};
        for (;;) {
            const auto got =
                ::pread(file_.get(), piece.data(), piece.size(), static_cast<off_t>(bytes.size()));
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got < 0) {
                return fail(system_error(errno, path_));
            }
            if (got == 0) {
                return bytes;
            }
            bytes.insert(bytes.end(), piece.begin(), piece.begin() + got);
            if (bytes.size() > limit) {
                return fail(
                    ErrorCode::corrupted, fmt::format("{} is longer than {} bytes", path_, limit));
            }
        }
    }

    Status append(std::span<const std::byte> bytes) override {
        while (!bytes.empty()) {
            const auto written = ::write(file_.get(), bytes.data(), bytes.size());
            if (written < 0 && errno != EINTR) {
                return fail(system_error(errno, path_));
            }
            bytes = bytes.subspan(static_cast<std::size_t>(written < 0 ? 0 : written));
            appended_ += written < 0 ? 0 : written;
        }
        return is_written_through_ ? write_windows_out() : Status{};
    }

    Status sync() override {
        if (::fdatasync(file_.get()) != 0) {
            return fail(system_error(errno, path_));
        }
        if (is_written_through_) {
            drop(0, 0); // all there is
        }
        return {};
    }

    void write_through() override {
        is_written_through_ = true;
        window_ = appended_;
    }

private:
    /// O_DIRECT would do without the cache at all, but then each append waits for the disk (half
    /// as fast where this was measured), not every file system has it, and all must be aligned.
    Status write_windows_out() {
        for (; appended_ - window_ >= write_through_window; window_ += write_through_window) {
            if (!write_out(window_, SYNC_FILE_RANGE_WRITE)) {
                return fail(system_error(errno, path_));
            }
            const off_t before = window_ - write_through_window;
            if (before < 0) {
                continue;
            }
            // A write-back that failed is told of once, here and not by sync().
            constexpr unsigned to_its_end =
                SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
            if (!write_out(before, to_its_end)) {
                return fail(system_error(errno, path_));
            }
            drop(before, write_through_window);
        }
        return {};
    }
    [[nodiscard]] bool write_out(off_t at, unsigned how) const {
        const int done = ::sync_file_range(file_.get(), at, write_through_window, how);
        // Of no use on some file systems, and needed on none.
        return done == 0 || errno == ENOSYS || errno == ESPIPE || errno == EINVAL;
    }
    /// A hint: whoever does not take it has the pages a little longer.
    void drop(off_t at, off_t length) const {
        (void)::posix_fadvise(file_.get(), at, length, POSIX_FADV_DONTNEED);
    }

    UniqueFd file_; ///< with O_APPEND
    std::string path_;
    off_t appended_ = 0; ///< by us; what is written through was made by us
    bool is_written_through_ = false;
    off_t window_ = 0; ///< up to here it is on its way to the disk
};

class PosixLock final : public DiskLock {
public:
    explicit PosixLock(UniqueFd file) : file_{std::move(file)} {}

private:
    UniqueFd file_;
};

class PosixDirectory final : public Directory {
public:
    PosixDirectory(UniqueFd directory, std::filesystem::path path, DirectoryUse use)
        : directory_{std::move(directory)},
          path_{std::move(path)},
          use_{use} {}

    Result<std::unique_ptr<DiskFile>> open(std::string_view name) override {
        return open_with(name, O_RDWR | O_APPEND);
    }
    Result<std::unique_ptr<DiskFile>> create(std::string_view name) override {
        return open_with(name, O_RDWR | O_APPEND | O_CREAT | O_EXCL);
    }

    Result<std::unique_ptr<DiskLock>> lock(std::string_view name) override {
        auto file = open_file(name, O_RDWR | O_CREAT);
        if (!file) {
            return fail(std::move(file).error());
        }
        struct flock whole_file{};
        whole_file.l_type = F_WRLCK;
        whole_file.l_whence = SEEK_SET;
        if (::fcntl(file->get(), F_OFD_SETLK, &whole_file) == 0) {
            return std::make_unique<PosixLock>(std::move(*file));
        }
        if (errno == EAGAIN || errno == EACCES) {
            return fail(ErrorCode::already_exists, path_of(name) + " is locked");
        }
        return fail(system_error(errno, "cannot lock " + path_of(name)));
    }

    Status rename(std::string_view from, std::string_view to) override {
        return done(
            ::renameat(directory_.get(), std::string{from}.c_str(), directory_.get(), text(to)),
            to);
    }
    Status rename_to_new(std::string_view from, std::string_view to) override {
        const std::string old{from};
        if (::renameat2(
                directory_.get(), old.c_str(), directory_.get(), text(to), RENAME_NOREPLACE) == 0) {
            return {};
        }
        if (errno != EINVAL && errno != ENOSYS) {
            return fail(system_error(errno, path_of(to)));
        }
        // A file system that cannot, such as NFS.
        return formats::then(link(from, to), [&] { return remove(old); });
    }
    Status link(std::string_view from, std::string_view to) override {
        return done(
            ::linkat(directory_.get(), std::string{from}.c_str(), directory_.get(), text(to), 0),
            to);
    }
    Status remove(std::string_view name) override {
        const int removed = ::unlinkat(directory_.get(), text(name), 0);
        return removed != 0 && errno == ENOENT ? Status{} : done(removed, name);
    }
    Status sync() override { return done(::fsync(directory_.get()), ""); }

    Result<std::vector<std::string>> names() override {
        // Opened anew: on NFS that is when the client asks the server what has changed.
        const int again = ::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR* listing = again < 0 ? nullptr : ::fdopendir(again);
        if (listing == nullptr) {
            const int why = errno;
            UniqueFd{again}.reset();
            return fail(system_error(why, path_.string()));
        }
        std::vector<std::string> found;
        errno = 0;
        while (const auto* entry = ::readdir(listing)) { // NOLINT(concurrency-mt-unsafe)
            found.emplace_back(static_cast<const char*>(entry->d_name));
        }
        const int why = errno;
        ::closedir(listing);
        if (why != 0) {
            return fail(system_error(why, path_.string()));
        }
        return found;
    }

    Result<std::unique_ptr<Directory>> enter(std::string_view name, bool is_made) override {
        if (is_made) {
            const int made = ::mkdirat(directory_.get(), text(name), directory_mode());
            if (made != 0 && errno != EEXIST) {
                return fail(system_error(errno, path_of(name)));
            }
            // Even where it was there: who made it may have died before this.
            auto synced = sync();
            if (!synced) {
                return fail(std::move(synced).error());
            }
        }
        auto directory = open_file(name, O_RDONLY | O_DIRECTORY);
        if (!directory) {
            return fail(std::move(directory).error());
        }
        return std::make_unique<PosixDirectory>(std::move(*directory), path_ / name, use_);
    }

    [[nodiscard]] std::string path_of(std::string_view name) const override {
        return name.empty() ? path_.string() : (path_ / name).string();
    }

private:
    [[nodiscard]] mode_t file_mode() const { return use_ == DirectoryUse::own ? 0600 : 0644; }
    [[nodiscard]] mode_t directory_mode() const { return use_ == DirectoryUse::own ? 0700 : 0755; }
    /// Valid until the next call.
    const char* text(std::string_view name) {
        name_ = name;
        return name_.c_str();
    }
    Status done(int result, std::string_view name) {
        return result == 0 ? Status{} : fail(system_error(errno, path_of(name)));
    }
    Result<UniqueFd> open_file(std::string_view name, int flags) {
        UniqueFd file{
            ::openat(directory_.get(), text(name), flags | O_CLOEXEC | O_NOFOLLOW, file_mode())};
        if (!file.is_open()) {
            return fail(system_error(errno, path_of(name)));
        }
        return file;
    }
    Result<std::unique_ptr<DiskFile>> open_with(std::string_view name, int flags) {
        auto file = open_file(name, flags);
        if (!file) {
            return fail(std::move(file).error());
        }
        return std::make_unique<PosixFile>(std::move(*file), path_of(name));
    }

    UniqueFd directory_;
    std::filesystem::path path_;
    DirectoryUse use_;
    std::string name_;
};

/// 0, or errno.
int make_durably(const std::filesystem::path& path) {
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
        return errno;
    }
    const auto parent = path.has_parent_path() ? path.parent_path() : ".";
    const UniqueFd above{::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    return above.is_open() && ::fsync(above.get()) == 0 ? 0 : errno;
}

} // namespace

Result<std::unique_ptr<Directory>>
open_directory(const std::filesystem::path& path, DirectoryUse use) {
    const int problem = use == DirectoryUse::own ? make_durably(path) : 0;
    if (problem != 0) {
        return fail(system_error(problem, path.string()));
    }
    UniqueFd directory{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!directory.is_open()) {
        return fail(system_error(errno, path.string()));
    }
    return std::make_unique<PosixDirectory>(std::move(directory), path, use);
}

} // namespace wherry::migrate
