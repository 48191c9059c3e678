"""nbgrader's settings for assignments/course, where `make student` puts a copy."""

c = get_config()  # noqa: F821  (nbgrader's own name)

c.CourseDirectory.course_id = "language-models"
c.GenerateAssignment.force = True  # the release that `make student` wrote is made anew
c.ExecutePreprocessor.timeout = 300  # seconds a cell
