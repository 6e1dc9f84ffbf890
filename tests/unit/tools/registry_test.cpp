// SPDX-License-Identifier: Apache-2.0
#include "tools/instance/registry.hpp"

#include "migrate/ownership/file_journal.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include <unistd.h>

using namespace wherry::tools;
using wherry::formats::ErrorCode;
namespace migrate = wherry::migrate;
namespace fs = std::filesystem;

namespace {

/// Names live in a directory of the test's own while this exists.
class OwnRuntimeDirectory {
public:
    OwnRuntimeDirectory()
        : path_{fs::temp_directory_path() / ("wherry-registry-" + std::to_string(::getpid()))} {
        fs::create_directories(path_);
        ::setenv("XDG_RUNTIME_DIR", path_.c_str(), 1); // NOLINT(concurrency-mt-unsafe)
    }
    ~OwnRuntimeDirectory() {
        ::unsetenv("XDG_RUNTIME_DIR"); // NOLINT(concurrency-mt-unsafe)
        fs::remove_all(path_);
    }
    OwnRuntimeDirectory(const OwnRuntimeDirectory&) = delete;
    OwnRuntimeDirectory& operator=(const OwnRuntimeDirectory&) = delete;

private:
    fs::path path_;
};

} // namespace

TEST_SUITE("tools.registry") {
    TEST_CASE("a name belongs to one holder at a time") {
        const OwnRuntimeDirectory directory;
        auto first = InstanceName::claim("a");
        REQUIRE(first.has_value());
        const auto second = InstanceName::claim("a");
        REQUIRE_FALSE(second.has_value());
        CHECK(second.error().code() == ErrorCode::already_exists);
        CHECK(second.error().text().find(std::to_string(::getpid())) != std::string::npos);
        first->release();
        CHECK(InstanceName::claim("a").has_value());
    }

    TEST_CASE("what a dead holder left does not block its name") {
        const OwnRuntimeDirectory directory;
        fs::create_directories(instance_directory());
        std::ofstream{instance_directory() / "a.pid"} << "999999";
        std::ofstream{instance_directory() / "a.sock"} << "";
        CHECK(list_instances().empty());
        const auto name = InstanceName::claim("a");
        REQUIRE(name.has_value());
        CHECK_FALSE(fs::exists(name->socket()));
    }

    TEST_CASE("a VM's journal may be kept where its name is") {
        const OwnRuntimeDirectory directory;
        auto name = InstanceName::claim("a");
        REQUIRE(name.has_value());
        auto here = migrate::open_directory(instance_directory(), migrate::DirectoryUse::own);
        REQUIRE(here.has_value());
        const std::shared_ptr<migrate::Directory> shared = *std::move(here);
        const auto journal = migrate::FileJournal::open(shared, "a");
        CHECK(journal.has_value());
        name->release();
        CHECK_FALSE(migrate::FileJournal::open(shared, "a").has_value());
    }

    TEST_CASE("only live names are listed, sorted") {
        const OwnRuntimeDirectory directory;
        CHECK(list_instances().empty());
        const auto b = InstanceName::claim("b");
        auto a = InstanceName::claim("a");
        REQUIRE((a.has_value() && b.has_value()));
        CHECK(list_instances() == std::vector<std::string>{"a", "b"});
        CHECK(find_instance("a").has_value());
        a->release();
        CHECK(list_instances() == std::vector<std::string>{"b"});
    }

    TEST_CASE("a name that is not there is answered with those that are") {
        const OwnRuntimeDirectory directory;
        const auto held = InstanceName::claim("web-1");
        const auto found = find_instance("web-2");
        REQUIRE_FALSE(found.has_value());
        CHECK(found.error().code() == ErrorCode::not_found);
        CHECK(found.error().text().find("web-1") != std::string::npos);
    }

    TEST_CASE("names that could leave the directory are refused") {
        const OwnRuntimeDirectory directory;
        for (const std::string name :
             {"", ".", "..", "a/b", "../a", ".hidden", "a b", "\xc3\xa4"}) {
            CAPTURE(name);
            CHECK_FALSE(InstanceName::claim(name).has_value());
            CHECK_FALSE(find_instance(name).has_value());
        }
        CHECK_FALSE(InstanceName::claim(std::string(65, 'a')).has_value());
        CHECK(InstanceName::claim(std::string(64, 'a')).has_value());
    }
}
