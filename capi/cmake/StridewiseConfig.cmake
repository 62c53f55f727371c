# find_package(Stridewise) defines the targets Stridewise::stridewise, the shared library, and Stridewise::static.
include(CMakeFindDependencyMacro)
find_dependency(Threads)

get_filename_component(_stridewise_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
find_path(Stridewise_INCLUDE_DIR stridewise.h HINTS "${_stridewise_prefix}/include" REQUIRED)
find_library(Stridewise_LIBRARY NAMES stridewise HINTS "${_stridewise_prefix}" PATH_SUFFIXES lib lib64 REQUIRED)
find_library(Stridewise_STATIC_LIBRARY NAMES libstridewise.a HINTS "${_stridewise_prefix}" PATH_SUFFIXES lib lib64)
mark_as_advanced(Stridewise_INCLUDE_DIR Stridewise_LIBRARY Stridewise_STATIC_LIBRARY)

if(NOT TARGET Stridewise::stridewise)
    add_library(Stridewise::stridewise UNKNOWN IMPORTED)
    set_target_properties(Stridewise::stridewise PROPERTIES
        IMPORTED_LOCATION "${Stridewise_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${Stridewise_INCLUDE_DIR}")
endif()
if(Stridewise_STATIC_LIBRARY AND NOT TARGET Stridewise::static)
    add_library(Stridewise::static STATIC IMPORTED)
    set_target_properties(Stridewise::static PROPERTIES
        IMPORTED_LOCATION "${Stridewise_STATIC_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${Stridewise_INCLUDE_DIR}"
        INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m")
endif()
unset(_stridewise_prefix)
